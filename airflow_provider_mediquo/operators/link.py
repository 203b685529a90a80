"""A link from the task of an upsert to its run on the page *Browse -> mediQuo*."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class MediquoRunLink(BaseOperatorLink):
    """The run: its ledger in words and as a picture."""

    name = "mediQuo run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, which the worker pushes as an XCom when the task ends.

        It is relative: a worker need not know Airflow's address, and the browser does.
        """
        query = {"dag": ti_key.dag_id, "task": ti_key.task_id, "run": ti_key.run_id}
        if ti_key.map_index is not None and ti_key.map_index >= 0:
            query["map"] = str(ti_key.map_index)
        return f"mediquo/?{urlencode(query)}"
