"""The guard and CORS as the running server wires them: what a browser sends for foreign pages."""

import pytest

ASK = {"model": "toy", "prompt": "an owl", "output_type": "file"}
PATHS = ("/api/v1/image/generate", "/aimo/api/v1/image/edit", "/openapi.json", "/nowhere")
FRIEND = "http://friend.example:3000"


@pytest.fixture(scope="module")
def befriended(serving, toy_config):
    allowed = {"LIMNER_SERVER__ALLOWED_ORIGINS": f'["{FRIEND}"]'}
    with serving("--config", str(toy_config), environment=allowed) as server:
        yield server


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_what_a_foreign_page_sends_is_refused_on_every_path(toy, path: str, name: str) -> None:
    value = {"Host": "evil.example", "Origin": "http://evil.example"}[name]
    with toy.client() as client:
        for method in ("GET", "POST", "OPTIONS"):
            answer = client.request(method, path, json=ASK, headers={name: value})
            assert answer.status_code == 403, method
            assert answer.json()["error"]["code"] == "forbidden"
            assert "access-control-allow-origin" not in answer.headers


def test_probes_answer_to_any_name(toy) -> None:
    with toy.client() as client:
        for path in ("/healthz", "/readyz"):
            assert client.get(path, headers={"Host": "10-0-0-7.pods"}).status_code == 200


def test_an_allowed_page_may_ask_and_read(befriended) -> None:
    ask = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    with befriended.client(headers={"Origin": FRIEND}) as client:
        preflight = client.options(PATHS[0], headers=ask)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == FRIEND
        answer = client.post(PATHS[0], json=ASK)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "X-Limner-Warnings" in answer.headers["access-control-expose-headers"]


def test_an_allowed_page_makes_no_other_welcome(befriended) -> None:
    with befriended.client() as client:
        answer = client.post(PATHS[0], json=ASK, headers={"Origin": "http://friend.example:3001"})
    assert answer.status_code == 403


def test_a_handshake_for_a_websocket_is_answered_as_any_request(toy) -> None:
    asks = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with toy.client() as client:
        statuses = [client.get(path, headers=asks).status_code for path in ("/v1/x", PATHS[0])]
        assert statuses == [404, 405]
        assert client.get("/healthz", headers=asks).status_code == 200
    assert "ERROR" not in toy.log
    assert "Traceback" not in toy.log
