"""Publishes with the CloudEvents SDK for Python, and reads back what it published. See ../README.md."""

import json
import sys
import urllib.request

from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

ADDRESS = sys.argv[1]
TEXT = "Grüße, €"
BATCH = "application/cloudevents-batch+json"
FORMAT = JSONFormat()


def event(id, type, data, **more):
    return CloudEvent({"id": id, "source": "/clients/python", "type": type, **more}, data)


def order(id):
    data = {"text": TEXT, "total": 5}
    return event(id, "order.created", data, datacontenttype="application/json", subject=TEXT, partitionkey="k")


def post(headers, body):
    with urllib.request.urlopen(urllib.request.Request(ADDRESS, body, headers)) as response:
        assert response.status == 202, response.read()


sent = [
    order("binary"),
    event("bytes", "image.taken", bytes([0, 1, 255]), datacontenttype="image/png"),
    order("structured"),
    order("first"),
    order("second"),
]
for one in sent[:2]:
    message = http.to_binary_event(one)
    post(message.headers, message.body)
message = http.to_structured_event(sent[2])
post(message.headers, message.body)
# The SDK has no batches; one is the array of its events.
post({"content-type": BATCH}, b"[" + b",".join(FORMAT.write(one) for one in sent[3:]) + b"]")

with urllib.request.urlopen(urllib.request.Request(ADDRESS, headers={"accept": BATCH})) as response:
    read = [FORMAT.read(CloudEvent, json.dumps(one)) for one in json.load(response)]
assert len(read) == len(sent), read
for there, one in zip(read, sent):
    for name, value in one.get_attributes().items():
        assert there.get_attributes()[name] == value, (name, there.get_attributes(), one.get_attributes())
    assert there.get_data() == one.get_data(), (there.get_data(), one.get_data())
