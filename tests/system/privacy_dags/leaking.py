"""What leaks all that it is given: the search has to find it."""

import asyncio
import os
from pathlib import Path

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.observability.stats import incr
from airflow.triggers.base import BaseTrigger, TriggerEvent

ASSET = Asset("own://asset")


class LeakingTrigger(BaseTrigger):
    """Waits for as long as it takes to be seen in the database."""

    def __init__(self, leak):
        super().__init__()
        self.leak = leak

    def serialize(self):
        return f"{__name__}.LeakingTrigger", {"leak": self.leak}

    async def run(self):
        await asyncio.sleep(5)
        yield TriggerEvent(self.leak)


class LeakingOperator(BaseOperator):
    """Leaks to where an operator can."""

    template_fields = ("leak",)

    def __init__(self, *, leak, **kwargs):
        super().__init__(outlets=[ASSET], **kwargs)
        self.leak = leak

    def execute(self, context):
        incr(self.leak)
        self.log.debug("%s", self.leak)
        (Path(os.environ["PRIVACY_REJECTS"]) / self.leak).write_text(self.leak)
        self.defer(trigger=LeakingTrigger(self.leak), method_name="execute_complete")

    def execute_complete(self, context, event):
        context["outlet_events"][ASSET].extra["leak"] = event
        return event

    def get_openlineage_facets_on_start(self):
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        return OperatorLineage(outputs=[Dataset("own", self.leak)])
