#!/usr/bin/env python3
"""Orders in a database and messages about them that cannot disagree, whatever dies when.

    payment.py API DATABASE COUNT [--crash PROBABILITY]

Pays COUNT orders, each a row of a local SQLite database and a message in the topic `orders`:

1. The message is sent as a half message: on the broker's disk, and nobody sees it.
2. The local transaction runs. It pays the order, or finds that it cannot be paid.
3. The half message is committed or rolled back accordingly.

If this program dies between 2 and 3, the broker asks the producers of the group what became of the
order (a check), and the next run of this program answers from the database.

--crash makes it die as by kill -9, with the given probability, at each step.
"""

import argparse
import json
import os
import random
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

GROUP = "payments"
TOPIC = "orders"


class Broker:
    """The native API, with a retry of everything: all of these calls may be repeated."""

    def __init__(self, api):
        self.api = api

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.api + path, data, headers, method=method)
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                problem = json.load(error)["error"]
                if error.code < 500:
                    raise Refused(problem["code"], problem["message"]) from None
            except OSError:
                pass  # The broker is away.
            if time.monotonic() > deadline:
                raise SystemExit("the broker does not come back")
            time.sleep(0.05)

    def send_half(self, message_id, text):
        # The same messageId again gives the same transaction: a retry sends nothing twice.
        body = {"payload": text, "key": message_id, "messageId": message_id, "producerGroup": GROUP}
        return self.call("POST", f"/api/v1/topics/{TOPIC}/half-messages", body)["transactionId"]

    def end(self, transaction_id, decision):
        try:
            self.call("POST", f"/api/v1/half-messages/{transaction_id}/{decision}", {})
        except Refused as refused:
            # The other decision, by a check of this database: never, since both ask it first.
            sys.exit(f"{decision} of {transaction_id}: {refused}")

    def checks(self):
        path = f"/api/v1/producer-groups/{GROUP}/checks?waitMs=1000&max=16"
        return self.call("GET", path)["checks"]


class Refused(Exception):
    """The broker's no."""


class Database:
    """What is paid and what is not. An order has one state, for ever."""

    def __init__(self, path):
        self.path = path
        with self.connect() as db:
            db.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, state TEXT)")

    def connect(self):
        return sqlite3.connect(self.path, timeout=30)

    def decide(self, order, state):
        """Sets the state if there is none yet; returns the state that holds."""
        with self.connect() as db:
            db.execute("INSERT INTO orders VALUES (?, ?) ON CONFLICT DO NOTHING", (order, state))
        with self.connect() as db:
            return db.execute("SELECT state FROM orders WHERE id = ?", (order,)).fetchone()[0]

    def paid(self):
        with self.connect() as db:
            return [row[0] for row in db.execute("SELECT id FROM orders WHERE state = 'paid'")]


def decision(state):
    return "commit" if state == "paid" else "rollback"


def answer_checks(broker, database):
    """Answers the broker's questions about orders whose program died."""
    while True:
        for check in broker.checks():
            # An order that is not in the database was never paid, and from here on never will be.
            state = database.decide(check["messageId"], "cancelled")
            broker.end(check["transactionId"], decision(state))


def pay(broker, database, crash):
    order = str(uuid.uuid4())
    crash()
    transaction = broker.send_half(order, f"order {order}")
    crash()
    can_be_paid = random.random() > 0.1
    state = database.decide(order, "paid" if can_be_paid else "cancelled")
    crash()
    broker.end(transaction, decision(state))
    crash()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("api")
    arguments.add_argument("database")
    arguments.add_argument("count", type=int)
    arguments.add_argument("--crash", type=float, default=0.0)
    options = arguments.parse_args()

    def crash():
        if random.random() < options.crash:
            os.kill(os.getpid(), 9)

    broker = Broker(options.api.rstrip("/"))
    database = Database(options.database)
    threading.Thread(target=answer_checks, args=(broker, database), daemon=True).start()
    while len(database.paid()) < options.count:
        pay(broker, database, crash)
    # What earlier runs left undecided is asked about within seconds.
    while broker.call("GET", f"/api/v1/half-messages?producerGroup={GROUP}")["halfMessages"]:
        time.sleep(0.1)
    for order in database.paid():
        print("paid", order)


if __name__ == "__main__":
    main()
