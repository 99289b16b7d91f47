"""examples/embedded: storages in processes of their own, which are peers, without any router."""

import os
import select
import subprocess

import pytest

from conftest import REPOSITORY
from polling import PATIENCE, wait_until
from router import free_port

PROGRAM = REPOSITORY / "target" / "release" / "examples" / "embedded"


class Robot:
    """A process, which answers each line with a line."""

    def __init__(self, number, folder, port, connect=()):
        assert PROGRAM.is_file(), "run `make build`"
        endpoints = [f"tcp/127.0.0.1:{each}" for each in (port, *connect)]
        self._process = subprocess.Popen(
            [PROGRAM, str(number), folder, *endpoints],
            env={**os.environ, "RUST_LOG": "error"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.greeting = self._line()

    def _line(self):
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert ready, "it answers"
        line = self._process.stdout.readline()
        assert line, f"it ended with {self._process.wait(PATIENCE)}"
        return line.strip()

    def ask(self, line):
        self._process.stdin.write(line + "\n")
        return self._line()

    def quit(self):
        self._process.stdin.write("quit\n")
        assert self._process.wait(PATIENCE) == 0

    def kill(self):
        self._process.kill()
        self._process.wait(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()


@pytest.fixture
def start_robot(tmp_path):
    started = []

    def start(number, *arguments):
        robot = Robot(number, str(tmp_path / str(number)), *arguments)
        started.append(robot)
        return robot

    yield start
    for robot in started:
        robot.kill()


def test_two_robots_have_what_each_wrote_and_keep_it(start_robot):
    ports = free_port(), free_port()
    first = start_robot(1, ports[0])
    assert first.ask("put fleet/alone x") == "put"
    assert first.ask("get fleet/alone") == "x"
    assert first.ask("get fleet/robot/2") == "nothing"

    second = start_robot(2, ports[1], [ports[0]])
    for robot in (first, second):
        for key, value in [("alone", "x"), ("robot/1", "ready"), ("robot/2", "ready")]:
            wait_until(
                lambda: robot.ask(f"get fleet/{key}") == value, f"a robot has {key}"
            )
    assert second.ask("publish fleet/news 1") == "published"
    for robot in (first, second):
        wait_until(lambda: robot.ask("get fleet/news") == "1", "a robot has the news")
    assert first.ask("delete fleet/alone") == "deleted"
    wait_until(lambda: second.ask("get fleet/alone") == "nothing", "both know of the delete")
    wait_until(lambda: first.ask("root") == second.ask("root"), "they have one root")
    listed = first.ask("list").split(";")
    assert {"fleet/news 1", "fleet/robot/1 ready", "fleet/robot/2 ready"} <= set(listed)

    second.quit()
    first.quit()
    again = start_robot(1, ports[0])
    assert again.ask("get fleet/news") == "1"
    assert again.ask("get fleet/alone") == "nothing"


def test_what_a_robot_cannot_take_is_an_error(start_robot):
    robot = start_robot(1, free_port())
    with pytest.raises(AssertionError, match="it ended with 1"):
        robot.ask("put elsewhere/x 1")
