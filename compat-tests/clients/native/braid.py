"""The native API for the scenarios beside it. Only Python's own library."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request


class Refused(Exception):
    """An error of the broker that trying again does not change."""

    def __init__(self, status, problem):
        super().__init__(f"{status} {problem}")
        self.status, self.code = status, problem["code"]


class Broker:
    def __init__(self, api):
        self.api = api

    def call(self, method, path, body=None, tries_s=60):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.api + path, data, headers, method=method)
        deadline = time.monotonic() + tries_s
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    text = answer.read()
                    return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                problem = json.load(error)["error"]
                if error.code < 500 or time.monotonic() > deadline:
                    raise Refused(error.code, problem) from None
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def create_topic(self, name, partitions, message_type="NORMAL"):
        body = {"name": name, "partitions": partitions, "messageType": message_type}
        self.call("POST", "/api/v1/topics", body)

    def send(self, topic, *messages):
        path = f"/api/v1/topics/{topic}/messages"
        return self.call("POST", path, {"messages": list(messages)})["messages"]

    def configure(self, group, **configs):
        configs = {name.replace("_", "."): value for name, value in configs.items()}
        self.call("PATCH", f"/api/v1/groups/{group}", {"configs": configs})

    def receive(self, group, topic, **more):
        body = {"topic": topic, **more}
        return self.call("POST", f"/api/v1/groups/{group}/receive", body)["messages"]

    def ack(self, group, messages):
        handles = [message["handle"] for message in messages]
        answer = self.call("POST", f"/api/v1/groups/{group}/ack", {"handles": handles})
        bad = [result for result in answer["results"] if not result["ok"]]
        assert not bad, bad

    def nack(self, group, message, **more):
        body = {"handle": message["handle"], **more}
        self.call("POST", f"/api/v1/groups/{group}/nack", body)

    def dead_letters(self, group):
        return self.call("GET", f"/api/v1/groups/{group}/dead-letters?limit=100")["messages"]


def text(message):
    return message["payload"]["text"]
