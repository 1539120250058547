"""Parts of the service that need no engine: values for clients, repeated requests, archives."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import socket
import threading
from types import SimpleNamespace

import pytest
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse

from runner.errors import RequestError
from runner.policy.rules import Rules
from runner.service import routing
from runner.service.archives import from_json, split
from runner.service.faults import RefusedError
from runner.service.forms import MAX_ENCODED, form_of
from runner.service.gate import Gate
from runner.service.ibm.values import Reader, WithheldError, from_client
from runner.service.identity import access_token, caller_of, token_of
from runner.service.repeats import Repeats
from runner.service.server import BoundedListener, _from_proxy
from runner.service.streams import Streams, beating
from runner.store import Store
from runner.store.users import Role, User, Users
from sandbox import codec
from sandbox.wire.protocol import MAX_NODES

OLDER, NEWER = Reader(is_older=True), Reader(is_older=False)
WRAPPED = {"__type__": "to_json"}


# --- values for IBM's clients ---------------------------------------------------------------------


@pytest.mark.parametrize("reader", [OLDER, NEWER])
@pytest.mark.parametrize("value", ["All done!", "two\nlines", "a url"])
def test_a_text_result_is_sent_as_it_is(reader, value):
    assert reader.text_of(codec.encode(value), raw=True) == value


@pytest.mark.parametrize("reader", [OLDER, NEWER])
@pytest.mark.parametrize("value", ["5", '{"a": 1}', "null", "", '"quoted"'])
def test_a_text_that_could_be_taken_for_json_is_marked_as_text(reader, value):
    assert json.loads(reader.text_of(codec.encode(value), raw=True)) == {
        **WRAPPED,
        "__value__": value,
    }


@pytest.mark.parametrize("value", [5, 1.5, True, None, {"url": "x"}, ["url"], "my url"])
def test_what_the_last_older_client_would_follow_or_fail_on_is_wrapped(value):
    assert json.loads(OLDER.text_of(codec.encode(value))) == {**WRAPPED, "__value__": value}
    assert json.loads(NEWER.text_of(codec.encode(value))) == value


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ([(1, 2)], [[1, 2]]),
        ([frozenset([1])], [[1]]),
        ([10**5000], [10**5000]),
        ([math.inf], [math.inf]),
        ({"a": {1: 2, None: 3}}, {"a": {"1": 2, "null": 3}}),
        ([1j], [{"__type__": "complex", "__value__": [0.0, 1.0]}]),
    ],
)
def test_what_only_we_tag_becomes_what_ibms_encoder_makes_of_it(value, seen):
    import sys

    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert json.loads(NEWER.text_of(codec.encode(value))) == seen
    finally:
        sys.set_int_max_str_digits(before)


def test_a_nan_is_a_nan():
    (value,) = json.loads(NEWER.text_of(codec.encode([math.nan])))
    assert math.isnan(value)


@pytest.mark.parametrize(
    "value",
    [
        {"__type__": "settings", "__module__": "m", "__class__": "C", "__value__": {}},
        {"__type__": "settings", "__value__": {}},
        {"__type__": "dill", "__value__": ""},
        {"__type__": "ParameterExpression", "__value__": ""},
        {"__type__": "QuantumCircuit", "__value__": ""},
        {"__type__": "Instruction", "__value__": ""},
        {"__type__": "set", "__value__": [{"__type__": "dill", "__value__": ""}]},
        {"__type__": "unknown", "__value__": {"x": {"__type__": "dill", "__value__": ""}}},
    ],
)
def test_what_would_run_code_is_found_wherever_it_is(value):
    for text in (json.dumps({"a": [value]}), json.dumps([value]).replace("_", "\\u005f")):
        with pytest.raises(WithheldError, match="the value"):
            OLDER.text_of(text)
        assert NEWER.text_of(text)


def test_inputs_arrive_as_they_were_encoded():
    tagged = {"__type__": "ndarray", "__value__": "x"}
    given = {"a": tagged, "b": {"__type__": "float", "__value__": 0.5}, "c": [1, "x"]}
    text = codec.encode(from_client(given))
    assert json.loads(text) == {"a": tagged, "b": 0.5, "c": [1, "x"]}


# --- requests that are repeated -------------------------------------------------------------------


def request(body, *, hangs_up):
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if pending:
            return pending.pop()
        if hangs_up:
            return {"type": "http.disconnect"}
        await asyncio.sleep(60)
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    return Request(scope, receive)


def asked(repeats, answer, body, user="alice", *, hangs_up=False):
    async def ask():
        route = routing.Route(
            method="POST", path="/", needs=routing.Needs.USER, answer=answer, does=""
        )
        made = request(body, hangs_up=hangs_up)
        audit = SimpleNamespace(add=lambda *_, **__: None)
        desk = SimpleNamespace(repeats=repeats, working=Gate("requests", 8, 8), audit=audit)
        call = routing.Call(
            desk=desk,
            request=made,
            user=User(name=user, role=Role.USER, created=0),
            note=routing.Note.of(made, "POST", "/"),
            body=await made.body(),
        )
        response = await routing._once(route, call, made)
        return response.body

    return asyncio.run(ask())


def test_a_body_of_very_many_values_is_refused_before_it_is_parsed():
    def objects(body):
        made = request(b"", hangs_up=False)
        return routing.Call(
            desk=None,
            request=made,
            user=User(name="alice", role=Role.USER, created=0),
            note=routing.Note.of(made, "POST", "/"),
            body=body,
        ).object()

    assert objects(b'{"a": [' + b"0," * 1000 + b"0]}") == {"a": [0] * 1001}
    with pytest.raises(RefusedError, match="more than 4000000 values"):
        objects(b'{"a": [' + b"0," * MAX_NODES + b"0]}")


def test_an_answer_that_was_not_waited_for_is_given_to_whoever_asks_again():
    made = []

    def answer(_):
        made.append(len(made))
        return PlainTextResponse(str(made[-1]))

    repeats = Repeats()
    assert asked(repeats, answer, b"a", hangs_up=True) == b"0"
    assert asked(repeats, answer, b"b") == b"1"  # something else
    assert asked(repeats, answer, b"a", user="bob") == b"2"  # somebody else
    assert asked(repeats, answer, b"a", hangs_up=True) == b"0"  # again, and again in vain
    assert asked(repeats, answer, b"a") == b"0"
    assert asked(repeats, answer, b"a") == b"3"  # it had the answer: this is a new one
    assert not repeats._turns


def test_places_are_shared_between_users_and_waiting_for_one_has_an_end():
    async def take():
        gate, held = Gate("requests", 3, 2), contextlib.AsyncExitStack()
        async with held:
            for user in ("a", "a", "b"):
                await held.enter_async_context(gate.place(user))
            for user in ("a", "b"):
                with pytest.raises(RefusedError, match="too many requests") as caught:
                    await gate.place(user, wait_s=0.01).__aenter__()
                assert caught.value.status == 503
            waiting = [asyncio.ensure_future(gate.place(u).__aenter__()) for u in ("a", "b")]
            await asyncio.sleep(0)
            assert not any(each.done() for each in waiting)
        await asyncio.wait_for(asyncio.gather(*waiting), 5)

    asyncio.run(take())


def test_a_listener_counts_what_it_has_accepted_until_that_is_closed():
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(BoundedListener(socket.AF_INET, socket.SOCK_STREAM, most=2))
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def client():
            return opened.enter_context(socket.create_connection(listener.getsockname()))

        accepted = []
        for _ in range(2):
            client()
            accepted.append(listener.accept()[0])
        refused = client()
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        assert refused.recv(1) == b""
        accepted[0].close()
        accepted[0].close()  # counts once
        client()
        accepted.append(listener.accept()[0])
        refused = client()
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        for each in accepted:
            each.close()


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["127.0.0.1, 192.0.2.1"], "192.0.2.1"),  # the first is what the client says
        (["127.0.0.1", "192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1", ""], "192.0.2.9"),
        ([], "192.0.2.9"),
    ],
)
def test_of_the_addresses_that_a_proxy_passes_on_the_one_it_has_seen_counts(said, address):
    found = []

    async def app(scope, receive, send):
        found.append((scope["client"][0], scope["scheme"]))

    headers = [(b"x-forwarded-for", each.encode()) for each in said]
    headers.append((b"x-forwarded-proto", b"https"))
    scope = {"type": "http", "scheme": "http", "client": ("192.0.2.9", 1), "headers": headers}
    asyncio.run(_from_proxy(app)(scope, None, None))
    assert found == [(address, "https")]


def test_a_form_that_takes_much_more_memory_than_bytes_is_bounded():
    def read(kind, body):
        return form_of(Headers({"content-type": kind}), body)

    most = b"a=" + b"x" * (MAX_ENCODED - 2)
    assert len(read("application/x-www-form-urlencoded", most)["a"]) == MAX_ENCODED - 2
    for kind in ("application/x-www-form-urlencoded", "", "text/plain"):
        with pytest.raises(RefusedError, match="multipart/form-data") as caught:
            read(kind, most + b"x")
        assert caught.value.status == 413
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n%s\r\n--b--\r\n'
    assert len(read("multipart/form-data; boundary=b", part % most)["a"]) == MAX_ENCODED


def test_a_form_is_read_beside_the_event_loop(monkeypatch):
    threads = []

    def read(headers, body):
        threads.append(threading.current_thread())
        return form_of(headers, body)

    async def receive():
        return {"type": "http.request", "body": b"a=1", "more_body": False}

    async def called():
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "client": None}
        request = Request({**scope, "qrunner.unix": True}, receive)
        page = routing.Route(
            method="POST",
            path="/",
            needs=routing.Needs.USER,
            answer=lambda _: routing.empty(),
            does="",
            is_page=True,
        )
        note = routing.Note.of(request, "POST", "/")
        desk = SimpleNamespace(rules=Rules(), heavy=Gate("large requests", 1, 1))
        async with contextlib.AsyncExitStack() as held:
            return await routing._call(page, desk, request, held, note)

    monkeypatch.setattr(routing, "form_of", read)
    assert asyncio.run(called()).form["a"] == "1"
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


def test_what_an_address_says_is_logged_without_tokens():
    assert routing.without_tokens("/v1/programs/qr_AbC-_9.x") == "/v1/programs/qr_….x"
    assert len(routing.without_tokens("x" * 1000)) == 128


# --- the rest -------------------------------------------------------------------------------------


def test_a_token_is_found_in_every_form_and_in_no_address():
    def of(*headers, query=b""):
        scope = {"type": "http", "headers": headers, "query_string": query, "path": "/"}
        return token_of(Request(scope))

    inside = access_token("qr_x")["access_token"].encode()
    assert of((b"authorization", b"Bearer qr_x")) == "qr_x"
    assert of((b"authorization", b"apikey qr_x")) == "qr_x"
    assert of((b"x-access-token", b"qr_x")) == "qr_x"
    assert of((b"authorization", b"Bearer " + inside)) == "qr_x"
    assert of((b"authorization", b"Basic qr_x")) == ""
    assert of(query=b"access_token=qr_x&token=qr_x") == ""
    assert of((b"authorization", b"Bearer " + b"x" * 10_000)) == ""
    for odd in (b"a.b.c", b"..", b"a." + base64.b64encode(b"[1]") + b".c", b"a.\xff.c"):
        assert of((b"authorization", b"Bearer " + odd)) == odd.decode("latin-1")


def test_a_single_user_is_whoever_asks_from_here_and_no_page_of_another_site():
    desk = SimpleNamespace(
        is_single_user=True, sessions=SimpleNamespace(user_of=lambda name: "by cookie")
    )

    def asks(host, *, origin=None, kind="http", client="127.0.0.1", cookie=b""):
        headers = [(b"host", host), (b"cookie", cookie)]
        if origin is not None:
            headers.append((b"origin", origin))
        scope = {"type": kind, "scheme": kind.replace("websocket", "ws"), "headers": headers}
        scope |= {"client": (client, 1), "server": ("127.0.0.1", 8765), "path": "/"}
        user = caller_of(desk, HTTPConnection(scope))
        return user if user is None or user == "by cookie" else "local"

    for host in (b"localhost:8765", b"127.0.0.1:8765", b"[::1]:8765"):
        assert asks(host) == asks(host, origin=b"http://" + host) == "local"
        for origin in (b"null", b"", b"http://localhost:9999", b"http://[", b"http://evil.example"):
            assert asks(host, origin=origin) is None
        assert asks(host, client="192.0.2.1") is None
    for host in (b"evil.example", b"[", b"[x]:1", b"localhost.evil.example", b"localhost:x@y", b""):
        assert asks(host) is None
    # A cookie does not open a WebSocket, which a page of any other site may ask for.
    cookie = b"qrunner-80=a; qrunner-8765=a"
    assert asks(b"localhost:8765", client="192.0.2.1", cookie=cookie) == "by cookie"
    assert asks(b"localhost:8765", client="192.0.2.1", cookie=cookie, kind="websocket") is None
    assert asks(b"localhost:8765", kind="websocket") == "local"


def test_tokens_expire_and_names_are_checked(tmp_path):
    with Store(tmp_path / "s") as store:
        users = Users(store.file)
        users.add("alice")
        token = users.new_token("alice", valid_s=1000)
        assert users.of_token(token).name == "alice"
        with store.file.writing() as db:
            db.execute("UPDATE tokens SET expires = 1")
        assert users.of_token(token) is None
        assert users.of_token("\ud800") is None
        for name in ("", "a b", "-a", "x" * 65, "a\n", "ä"):
            with pytest.raises(RequestError, match="a name is"):
                users.add(name)
        with pytest.raises(RequestError, match="exists already"):
            users.add("alice")
        for call in (users.new_token, users.disable, users.enable):
            with pytest.raises(RequestError, match="no user 'bob'"):
                call("bob")


def test_paths_in_an_archive_lead_into_it():
    def files(*names):
        return from_json(dict.fromkeys(names, ""))

    assert set(files("a.py", "b/c.py", "./d.py")) == {"a.py", "b/c.py", "d.py"}
    found = files("a.py", ".git/config", "x/__pycache__/a.py", "cases/a.json", "x/cases/b.py")
    assert [set(each) for each in split(found)] == [{"a.py"}, {"a.json"}]
    for odd in ("../a", "/a", "a/../../b", "a\\b", "", "a\0", "a\x1b[2J", "a\u202eb"):
        with pytest.raises(RequestError):
            files(odd)


def test_a_silent_stream_says_that_it_lives_and_ends_with_its_source():
    async def slow():
        yield 1
        await asyncio.sleep(0.2)
        yield 2

    async def read():
        return [each async for each in beating(slow(), 0.02)]

    found = asyncio.run(read())
    assert [each for each in found if each is not None] == [1, 2]
    assert found.count(None) >= 2


def test_streams_are_counted_for_each_user():
    user, other = (User(name=name, role=Role.USER, created=0) for name in "ab")

    async def opened():
        streams = Streams(Rules(streams=1, all_streams=2))
        with streams.open(user):
            with pytest.raises(RequestError, match="the quota"):
                streams.check(user)
            with streams.open(other), pytest.raises(RequestError, match="most of this service"):
                streams.check(User(name="c", role=Role.USER, created=0))
        streams.check(user)
        return streams.number

    assert asyncio.run(opened()) == 0
