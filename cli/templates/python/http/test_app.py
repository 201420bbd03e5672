from app import greet
from dunlin import testing


class Tests(testing.TestCase):
    def test_everybody_is_greeted(self):
        response = testing.respond(greet, params={"who": "ada"})
        self.assertEqual((response.status, response.json()), (200, {"greeting": "Hello, ada!"}))
