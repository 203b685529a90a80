"""Sync mediQuo with an export that has its own column names, encoding, dates and phone numbers.

Copy it, change `to_patient` and `columns` to fit your file, and add a connection `mediquo_default`.
Needs `airflow-provider-mediquo[phone]` on the workers.
"""

# [START messy]
import datetime as dt
import os
from pathlib import Path

from airflow.sdk import Param, dag
from pendulum import datetime, duration

from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator

EXPORT = Path(__file__).parent / "data" / "socios.csv"
REJECTS = os.environ.get("MEDIQUO_REJECTS", Path.home() / "mediquo-rejects")


def to_day(text: str) -> dt.date | None:
    text = text.strip()
    return dt.datetime.strptime(text, "%d/%m/%Y").date() if text else None


def to_patient(member: dict) -> dict:
    left = to_day(member["fecha_baja"])
    has_left = left is not None and left <= dt.date.today()
    sexo, idioma = member["sexo"].strip().upper(), member["idioma"].strip()
    return member | {
        # hombre, mujer. Any other letter stays as it is, and is rejected with the rule `choice`.
        "sexo": {"H": "male", "M": "female"}.get(sexo, sexo),
        "fecha_nac": to_day(member["fecha_nac"]),
        # mediQuo has no Catalan, Galician or Basque: ca_ES, gl_ES, eu_ES.
        "idioma": "es" if idioma[:2] in ("ca", "gl", "eu") else idioma,
        # Without a plan, mediQuo unsubscribes the member.
        "producto": None if has_left else member["producto"],
    }


@dag(
    schedule="0 4 * * *",
    start_date=datetime(2026, 1, 1, tz="Europe/Madrid"),
    catchup=False,
    # Concurrent runs would overwrite each other's patients in an unpredictable order.
    max_active_runs=1,
    # Retries help when a worker, a server, or the network fails. Errors that need human action
    # (keys, settings, invalid members) and a sensor that timed out are not retried.
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    params={
        "path": Param(str(EXPORT), type="string", description="A file, a folder or a glob"),
        "rejects": Param(str(REJECTS), type="string", description="A folder on the worker"),
    },
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_messy_file():
    upsert = FileToMediquoOperator(
        task_id="upsert",
        path="{{ params.path }}",
        # Windows-1252, which Excel in Western Europe writes. The delimiter `;` is detected.
        encoding="cp1252",
        # Called with each row, before `columns`. An exception rejects this row and no other.
        transform=to_patient,
        columns={
            "num_socio": "code",
            "nombre": "first_name",
            "apellidos": "last_name",
            "sexo": "gender",
            "fecha_nac": "birth_date",
            "correo": "email",
            "telefono": "phone",
            "producto": "plan",
            "idioma": "locale",
            "fecha_baja": None,
            "observaciones": None,
        },
        # 600123456 is a number in Spain, and is sent as +34600123456.
        phone_region="ES",
        # Members who have left have no plan. Stop if they are more than one in four.
        max_without_plan=0.25,
        # Tolerate up to this many rejects. They do not hold back the valid members.
        max_rejects=10,
        rejects_path="{{ params.rejects }}",
    )

    # mediQuo accepts a write before it shows it. The ledger that the upsert returns contains 20
    # codes, each with a proof of what was written. Wait until mediQuo shows these changes.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        written=upsert.output,
        deferrable=True,
        poke_interval=10,
        timeout=15 * 60,
    )


mediquo_messy_file()
# [END messy]
