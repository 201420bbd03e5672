"""The runs croniter finds: for each line {"cron", "zone", "after"} of stdin, one line with the first runs after that moment.

A run is [moment, again]: seconds since the Unix epoch, and whether clocks show that time for the second time. An expression
croniter refuses is null.
"""

import json
import sys
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

RUNS = 8


def run(time):
    first = time.replace(fold=0)
    again = time.fold == 1 and first.utcoffset() != time.utcoffset()
    return [int(time.timestamp()), again]


for line in sys.stdin:
    case = json.loads(line)
    after = datetime.fromtimestamp(case["after"], ZoneInfo(case["zone"]))
    try:
        runs = croniter(case["cron"], after, second_at_beginning=True, max_years_between_matches=100)
        print(json.dumps([run(runs.get_next(datetime)) for _ in range(RUNS)]))
    except CroniterError as error:
        print(f"{case}: {error}", file=sys.stderr)
        print("null")
