from app import Invoice, Paid, issue
from dunlin import Reject, testing


def paid(order: str, amount: int, **attributes: str | None):
    return testing.event("order.paid", Paid(order, amount), **attributes)


class Tests(testing.TestCase):
    def test_numbers_follow_each_other_within_a_year(self):
        first, second = issue(paid("7", 900)), issue(paid("8", 450))
        self.assertEqual(first.data, Invoice("2026-000001", "7", 900))
        self.assertEqual((second.data.invoice, second.key, second.subject), ("2026-000002", "8", "8"))
        self.assertEqual(issue(paid("9", 1, time="2027-01-01T00:00:00Z")).data.invoice, "2027-000001")

    def test_an_event_without_a_time_is_of_this_year(self):
        self.assertRegex(issue(paid("7", 900, time=None)).data.invoice, r"^20\d\d-000001$")

    def test_an_event_that_is_not_taken_uses_up_no_number(self):
        with self.assertRaisesRegex(Reject, "amount: expected int, got null"):
            testing.deliver(issue, testing.event("order.paid", {"order": "7", "amount": None}))
        self.assertEqual(testing.state(), {})

    def test_it_is_published_as_the_others_read_it(self):
        [event] = testing.deliver(issue, paid("7", 900))
        self.assertEqual(event.type, "invoice.issued")
        self.assertEqual(event.data, {"invoice": "2026-000001", "order": "7", "amount": 900})
