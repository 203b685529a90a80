"""Kills at the moment of waiting: `python -m tests.hooks.kills COUNT KIND...`.

Reads nothing, writes the seconds from each signal to the end of what it killed, as JSON. The moments are
the same in each run.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_mediquo.api.errors import StoppedError
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor

FIRST_WAIT = 0.06
"""Seconds from the start of a call to about its wait."""


def start(kind: str) -> tuple[Callable[[], Any], Callable[[], None]]:
    """Return a call that waits, and what a kill of its task calls."""
    hook = MediquoHook()
    if kind == "sensor":
        sensor = MediquoPatientSensor(task_id="wait", codes="m-0", poke_interval=300, timeout=900)
        return lambda: sensor.execute({}), sensor.on_kill
    if kind == "upsert":
        patients = ({"code": f"m-{n}", "first_name": "Ada", "plan": "p"} for n in range(300))
        return lambda: hook.upsert_patients(patients, max_in_flight=2), hook.stop
    method = hook.get_patient if kind == "get" else hook.authenticate_patient
    return lambda: method("m-1"), hook.stop


def kill(kind: str, after: float, *, is_repeated: bool) -> float:
    """Kill a call, and return how long it took to end.

    :param after: seconds from the start of the call to the signal.
    :param is_repeated: whether the signal comes again and again, as from an impatient scheduler. The
        handler then interrupts itself, too; but a kill that gets lost is made up for by the next one.
    """
    call, on_kill = start(kind)
    killed: list[float] = []

    def handler(*_: object) -> None:
        killed.append(time.monotonic())
        if is_repeated:
            signal.setitimer(signal.ITIMER_REAL, 0.005)
        on_kill()

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        call()
    except StoppedError:
        pass
    except Exception as error:
        if not killed:
            raise
        print(type(error).__name__, file=sys.stderr)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return time.monotonic() - killed[0]


def main(count: int, *kinds: str) -> None:
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    moments = random.Random(7)
    seconds = [
        kill(kind, moments.uniform(0.0001, FIRST_WAIT), is_repeated=bool(number % 2))
        for kind in kinds
        for number in range(count)
    ]
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
