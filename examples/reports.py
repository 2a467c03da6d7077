"""Reports that take a while, and whose progress is published by a task. Run it with `wsd start reports:app`."""

from fastapi import BackgroundTasks, FastAPI, WebSocket
from wsd import Cluster

cluster = Cluster()
app = FastAPI(lifespan=cluster.lifespan)


@app.post("/reports/{report}")
def start(report: str, tasks: BackgroundTasks) -> None:
    tasks.add_task(write, report)


def write(report: str) -> None:
    """Write a report. This runs in a thread, and takes its time."""
    for percent in (0, 50, 100):
        cluster.sync.publish(f"report:{report}", {"percent": percent})


@app.websocket("/reports/{report}")
async def watch(websocket: WebSocket, report: str) -> None:
    async with cluster.serve(websocket) as client:
        await client.join(f"report:{report}", last=1)  # where it stands now, and then all that follows
        async for _ in client:
            pass  # whoever watches has nothing to say
