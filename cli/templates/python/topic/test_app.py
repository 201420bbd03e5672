from app import Counted, on_event
from dunlin import testing


class Tests(testing.TestCase):
    def test_events_are_counted_by_type(self):
        for count in (1, 2):
            event = testing.event("order.created", "anything")
            self.assertEqual(on_event(event).data, Counted("order.created", count))
        self.assertEqual(testing.state(), {"order.created": 2})
