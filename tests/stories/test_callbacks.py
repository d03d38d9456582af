"""A program asks, goes away, and has the answer posted to it."""

import asyncio
import base64
import json
from pathlib import Path

from entobot.core.webhook_signing import verify
from tests.support.hooks import hook
from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess
from tests.support.thing import Thing

SECRET = b"s" * 32


async def test_answer_and_decision_are_posted_to_the_program_that_asked(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(SECRET).decode())
    with hook() as receiver:
        own = {
            "ENTOBOT_CALLBACKS__URLS": f"{receiver.origin}/hooks/",
            "ENTOBOT_CALLBACKS__SECRET_FILE": str(tmp_path / "secret"),
            "ENTOBOT_CALLBACKS__PRIVATE_NETWORKS": "127.0.0.1/32",
        }
        gateway = GatewayProcess(tmp_path / "home", environment=ROOMY | own).start()
        try:
            agent = await asyncio.to_thread(Thing.make, gateway, "Agent", "--scopes", "notify")
            device = await asyncio.to_thread(gateway.pair, "Phone")
            there = {"callback_url": f"{receiver.origin}/hooks/agent"}
            elsewhere = {"text": "When?", "callback_url": "https://evil.example/hooks/"}
            refused = await asyncio.to_thread(agent.request, "POST", "/api/v1/questions", json=elsewhere)
            assert refused.json()["code"] == "address_refused"
            async with connected(gateway, device) as phone:
                asked = await asyncio.to_thread(
                    agent.request, "POST", "/api/v1/questions", json={"text": "When?"} | there
                )
                question = asked.json()["question_id"]
                await phone.command("question.answer", {"question_id": question, "answer": "at seven"})
                posted = await asyncio.to_thread(receiver.posted.get, timeout=GENEROUS_S)
                told = json.loads(posted.body)
                assert (told["type"], told["data"]["answer"]) == ("question.closed", "at seven")
                wish = {"tool": "deploy", "args": {"to": "x"}} | there
                await asyncio.to_thread(agent.request, "POST", "/api/v1/approvals", json=wish)
                approval = (await phone.until_event("approval.requested"))["data"]
                await asyncio.to_thread(device.decide, approval, "approve")
                posted = await asyncio.to_thread(receiver.posted.get, timeout=GENEROUS_S)
            verify(SECRET, posted.headers, posted.body, int(posted.headers["webhook-timestamp"]))
            data = json.loads(posted.body)["data"]
            assert (data["state"], data["args"]) == ("approved", {"to": "x"})
            rows = (await asyncio.to_thread(agent.request, "GET", "/api/v1/callbacks")).json()["rows"]
            assert {(row["kind"], row["device_id"]) for row in rows} == {
                ("question", agent.device_id),
                ("approval_request", agent.device_id),
            }
        finally:
            gateway.close()
