"""Kills at the moment of waiting: `python -m tests.hooks.kills COUNT KIND...`.

Reads nothing, writes the seconds from each signal to the end of what it killed, as JSON.
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


def kill_once(kind: str) -> float:
    call, on_kill = start(kind)
    killed: list[float] = []

    def handler(*_: object) -> None:
        killed.append(time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, 0.005)  # again, as an impatient scheduler would
        on_kill()

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, FIRST_WAIT))
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
    print(json.dumps([kill_once(kind) for kind in kinds for _ in range(count)]))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
