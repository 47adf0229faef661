"""thin"""

from prefopt.data.manifest import Rows
from prefopt.stages.base import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    context.output.write_bytes("drift.json", b"{}")
    return StageResult(rows=Rows(in_=0, out=0), files=["drift.json"], summary={"action": "train"})
