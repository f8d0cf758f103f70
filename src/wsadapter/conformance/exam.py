"""The exam: one contract, asked over the wire, the same for every host."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from struct import pack
from typing import Any, ClassVar, Literal

from wsadapter.frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT

from .views import COOKIES, FLOOD, View, views
from .wire import Client, Frame, frame

__all__ = ["Conformance"]

CONTINUATION = 0x0


class Conformance:
    """Inherit it, say how your host is served, and be examined."""

    colour: ClassVar[Literal["async", "def"]] = "async"
    """Of the handlers."""

    connections: ClassVar[int] = 50
    """How many are open at once in the exam's crowd."""

    _exit: ClassVar[ExitStack]
    _address: ClassVar[tuple[str, int]]

    @classmethod
    def serve(cls, views: Mapping[str, View]) -> AbstractContextManager[tuple[str, int]]:
        """Serve *views* for as long as the context lasts, and say on which host and port."""
        raise NotImplementedError("a host under examination says how it is served")

    @classmethod
    def setup_class(cls) -> None:
        """Start the host; pytest calls it once, before the first question."""
        cls._exit = ExitStack()
        cls._address = cls._exit.enter_context(cls.serve(views(cls.colour)))

    @classmethod
    def teardown_class(cls) -> None:
        """Stop it."""
        cls._exit.close()

    def connect(self, target: str, **how: Any) -> Client:
        """Open a connection; see `Client`."""
        return Client(self._address, target, **how)

    def noticed(self, token: str) -> dict[str, Any]:
        """What the handler of another connection noticed, once it has ended."""
        with self.connect(f"/noticed?token={token}") as client:
            return json.loads(client.receive()) or {}

    # -------------------------------------------------------------------------------------- messages

    def test_text_and_binary_come_back_as_what_they_were(self) -> None:
        """RFC 6455 §5.6."""
        with self.connect("/echo") as client:
            for message in ("héllo wörld ✓", b"\x00\x01\xfe\xff"):
                client.send(message)
                assert client.receive() == message

    def test_messages_come_back_in_the_order_they_were_sent(self) -> None:
        with self.connect("/echo") as client:
            client.send_frames(*(frame(TEXT, str(number).encode()) for number in range(200)))
            assert [client.receive() for _ in range(200)] == [str(number) for number in range(200)]

    def test_empty_messages_are_messages(self) -> None:
        """RFC 6455 §5.6."""
        with self.connect("/echo") as client:
            client.send("")
            assert client.receive() == ""
            client.send(b"")
            assert client.receive() == b""

    def test_a_message_of_several_hundred_kilobytes_comes_back_whole(self) -> None:
        with self.connect("/echo") as client:
            message = "0123456789abcdef" * 40_000
            client.send(message)
            assert client.receive() == message

    def test_fragments_are_one_message_and_a_ping_between_them_is_answered_at_once(self) -> None:
        """RFC 6455 §5.4."""
        with self.connect("/echo") as client:
            client.send_frames(frame(TEXT, b"one ", fin=False), frame(PING, b"?"))
            assert client.receive_frame() == Frame(PONG, b"?")
            client.send_frames(frame(CONTINUATION, b"two ", fin=False), frame(CONTINUATION, b"three"))
            assert client.receive() == "one two three"

    def test_a_character_may_be_cut_by_a_fragment(self) -> None:
        """RFC 6455 §5.6."""
        with self.connect("/echo") as client:
            text = "☃".encode()
            client.send_frames(frame(TEXT, text[:1], fin=False), frame(CONTINUATION, text[1:]))
            assert client.receive() == "☃"

    def test_a_message_larger_than_the_limit_is_refused_before_it_has_come(self) -> None:
        """RFC 6455 §7.4.1: 1009."""
        with self.connect("/echo") as client:
            client.send_frames(b"\x82\xff" + pack("!Q", 1 << 40) + b"\0\0\0\0")
            assert client.receive_close()[0] == 1009

    def test_a_ping_is_answered_with_what_it_said(self) -> None:
        """RFC 6455 §5.5.3."""
        with self.connect("/echo") as client:
            client.send_frames(frame(PING, b"are you there?"))
            assert client.receive_frame() == Frame(PONG, b"are you there?")

    def test_a_pong_that_nobody_asked_for_is_no_matter(self) -> None:
        """RFC 6455 §5.5.3."""
        with self.connect("/echo") as client:
            client.send_frames(frame(PONG, b"by the way"))
            client.send("still here")
            assert client.receive() == "still here"

    def test_the_server_may_speak_first(self) -> None:
        with self.connect("/greet") as client:
            assert client.receive() == "welcome"
            client.send("thanks")
            assert client.receive() == "thanks"

    def test_what_comes_with_the_request_is_not_lost(self) -> None:
        with self.connect("/echo", early=frame(TEXT, b"early") + frame(TEXT, b"bird")) as client:
            assert client.receive() == "early"
            assert client.receive() == "bird"

    def test_a_slow_reader_misses_nothing(self) -> None:
        count, size = FLOOD
        with self.connect("/flood", receive_buffer=4096) as client:
            for number in range(count):
                assert client.receive() == number.to_bytes(4, "big") * (size // 4)
            assert client.receive_close()[0] == 1000

    def test_many_connections_are_served_at_once(self) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(self.connect("/echo")) for _ in range(self.connections)]
            for number, client in enumerate(clients):
                client.send(str(number))
            assert [client.receive() for client in clients] == [str(number) for number in range(len(clients))]

    # --------------------------------------------------------------------------------------- opening

    def test_the_handler_knows_what_was_asked_for(self) -> None:
        with self.connect("/request?room=1&name=%C3%A9", headers=[("X-Exam", "a"), ("X-Exam", "b")]) as client:
            asked = json.loads(client.receive())
            assert asked["method"] == "GET"
            assert asked["path"] == "/request"
            assert asked["query"] == "room=1&name=%C3%A9"
            assert ",".join(asked["x-exam"]).replace(" ", "") == "a,b"  # a host may have joined the two

    def test_the_first_of_our_subprotocols_that_was_offered_is_spoken(self) -> None:
        """RFC 6455 §4.2.2: the server's choice, among what the client offered."""
        with self.connect("/subprotocol", headers=[("Sec-WebSocket-Protocol", "exam.v1, exam.v2, x")]) as client:
            assert client.headers.get_all("sec-websocket-protocol") == ["exam.v2"]
            assert client.receive() == '"exam.v2"'

    def test_no_subprotocol_is_spoken_that_was_not_offered(self) -> None:
        """RFC 6455 §4.2.2."""
        with self.connect("/subprotocol", headers=[("Sec-WebSocket-Protocol", "other")]) as client:
            assert "sec-websocket-protocol" not in client.headers
            assert client.receive() == "null"

    def test_a_required_subprotocol_is_insisted_on(self) -> None:
        with self.connect("/required") as client:
            assert client.status == 400
            assert b"exam.v2" in client.body

    def test_headers_and_cookies_come_with_the_101(self) -> None:
        with self.connect("/headers") as client:
            assert client.status == 101
            for name, value in COOKIES:
                assert value in client.headers.get_all(name)

    def test_no_extension_is_used_that_was_not_asked_for(self) -> None:
        """RFC 6455 §9.1."""
        with self.connect("/echo", headers=[("Sec-WebSocket-Extensions", "permessage-deflate")]) as client:
            assert "sec-websocket-extensions" not in client.headers

    def test_the_page_of_another_site_is_refused(self) -> None:
        """RFC 6455 §10.2."""
        with self.connect("/echo", headers=[("Origin", "https://evil.example")]) as client:
            assert client.status == 403
            assert client.body

    def test_the_page_of_a_friend_is_let_in(self) -> None:
        with self.connect("/friends", headers=[("Origin", "https://friend.example")]) as client:
            assert client.status == 101

    def test_a_page_of_our_own_is_let_in(self) -> None:
        host = f"{self._address[0]}:{self._address[1]}"
        with self.connect("/echo", headers=[("Origin", f"http://{host}")]) as client:
            assert client.status == 101

    def test_a_visitor_who_wants_no_websocket_is_told_what_is_here(self) -> None:
        """RFC 9110 §15.5.22: 426 names the protocol to upgrade to."""
        bare = ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
        for path in ("/echo", "/required"):
            with self.connect(path, without=bare) as client:
                assert client.status == 426
                assert client.headers.get("upgrade", "").lower() == "websocket"
                assert b"WebSocket" in client.body

    def test_another_version_is_refused_with_the_one_we_speak(self) -> None:
        """RFC 6455 §4.4."""
        version = [("Sec-WebSocket-Version", "8")]
        with self.connect("/echo", without=["Sec-WebSocket-Version"], headers=version) as client:
            assert client.status == 426
            assert client.headers.get("sec-websocket-version") == "13"

    def test_a_request_without_a_good_key_is_refused(self) -> None:
        """RFC 6455 §4.2.1."""
        key = [("Sec-WebSocket-Key", "c2hvcnQ=")]
        with self.connect("/echo", without=["Sec-WebSocket-Key"], headers=key) as client:
            assert client.status == 400

    def test_an_address_that_is_no_websocket_is_an_ordinary_page(self) -> None:
        with self.connect("/nowhere") as client:
            assert client.status == 404

    # ----------------------------------------------------------------------------------- compression

    def test_what_is_compressed_is_agreed_on_and_comes_back_right(self) -> None:
        """RFC 7692 §7."""
        offer = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
        with self.connect("/compressed", headers=offer) as client:
            agreed = client.headers.get("sec-websocket-extensions", "")
            assert agreed.startswith("permessage-deflate")
            message = b"again and " * 1000
            deflate, inflate = zlib.compressobj(wbits=-9), zlib.decompressobj(wbits=-15)
            for _ in range(3):
                data = deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH)
                client.send_frames(frame(RSV1 | BINARY, data[:-4]))
                answer = client.receive_frame()
                assert answer.compressed
                assert len(answer.payload) < 1000
                assert inflate.decompress(answer.payload + b"\x00\x00\xff\xff") == message

    def test_an_offer_that_is_ill_told_is_declined(self) -> None:
        """RFC 7692 §7.1."""
        offer = [("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=7")]
        with self.connect("/compressed", headers=offer) as client:
            assert client.status == 101
            assert "sec-websocket-extensions" not in client.headers

    # --------------------------------------------------------------------------------------- closing

    def test_the_peers_close_is_answered_with_its_code_and_known_to_the_handler(self) -> None:
        """RFC 6455 §5.5.1."""
        token = uuid.uuid4().hex
        with self.connect(f"/record?token={token}") as client:
            client.send("last words")
            assert client.close(4001, "bye")[0] == 4001
            assert client.wait_for_end() == b""
        assert self.noticed(token) == {"read": ["last words"], "code": 4001, "reason": "bye"}

    def test_a_close_without_a_code_is_1005(self) -> None:
        """RFC 6455 §7.1.5."""
        token = uuid.uuid4().hex
        with self.connect(f"/record?token={token}") as client:
            client.send_frames(frame(CLOSE))
            assert client.receive_close() == (1005, "")
        assert self.noticed(token)["code"] == 1005

    def test_what_was_said_before_a_close_is_answered_before_it(self) -> None:
        """RFC 6455 §5.5.1: the answer to a Close may wait for what is being said."""
        with self.connect("/echo") as client:
            client.send_frames(frame(TEXT, b"one"), frame(BINARY, b"two"), frame(CLOSE, pack("!H", 1000)))
            assert client.receive() == "one"
            assert client.receive() == b"two"
            assert client.receive_close()[0] == 1000

    def test_a_peer_that_ends_its_side_behind_its_close_is_still_answered(self) -> None:
        """RFC 6455 §7.1.1: the server closes the transport first, so the client's half is no loss."""
        with self.connect("/echo") as client:
            client.send_frames(frame(TEXT, b"one"), frame(CLOSE, pack("!H", 1000)))
            client.end()
            assert client.receive() == "one"
            assert client.receive_close()[0] == 1000

    def test_the_handlers_close_has_its_code_and_reason(self) -> None:
        """RFC 6455 §7.4."""
        with self.connect("/close?code=4321&reason=enough") as client:
            assert client.receive_close() == (4321, "enough")
            client.send_frames(frame(CLOSE, pack("!H", 4321)))
            assert client.wait_for_end() == b""

    def test_a_handler_that_returns_closes_with_1000(self) -> None:
        with self.connect("/request") as client:
            client.receive()
            assert client.receive_close()[0] == 1000

    def test_a_handler_that_fails_closes_with_1011_and_tells_nothing(self) -> None:
        with self.connect("/fail") as client:
            code, reason = client.receive_close()
            assert code == 1011
            assert "secret" not in reason
            assert "LookupError" not in reason

    def test_a_peer_that_vanishes_ends_reading_with_1006(self) -> None:
        """RFC 6455 §7.1.5."""
        token = uuid.uuid4().hex
        with self.connect(f"/record?token={token}") as client:
            client.send("hello")
            client.send_frames(frame(PING))
            client.receive_frame()
            client.drop()
        noticed = self.noticed(token)
        assert noticed["read"] == ["hello"]
        assert noticed["code"] == 1006

    def test_a_handler_that_only_sends_learns_that_the_peer_has_gone(self) -> None:
        token = uuid.uuid4().hex
        with self.connect(f"/send-only?token={token}") as client:
            assert client.receive() == "tick"
            client.send_frames(frame(TEXT, b"nobody reads this"), frame(CLOSE, pack("!H", 1001)))
            while client.receive_frame().opcode != CLOSE:
                pass
        assert self.noticed(token)["code"] == 1001

    def test_what_breaks_the_protocol_is_closed_with_1002_after_what_was_right(self) -> None:
        """RFC 6455 §5.1: a client masks."""
        with self.connect("/echo") as client:
            client.send_frames(frame(TEXT, b"right"), frame(TEXT, b"wrong", masked=False))
            assert client.receive() == "right"
            assert client.receive_close()[0] == 1002

    def test_text_that_is_not_utf8_is_closed_with_1007(self) -> None:
        """RFC 6455 §8.1."""
        with self.connect("/echo") as client:
            client.send_frames(frame(TEXT, b"\xff\xfe"))
            assert client.receive_close()[0] == 1007

    def test_nothing_is_answered_after_a_close(self) -> None:
        """RFC 6455 §5.5.1."""
        with self.connect("/close?code=1000") as client:
            client.receive_close()
            client.send_frames(frame(PING, b"?"), frame(CLOSE, pack("!H", 1000)))
            assert client.wait_for_end() == b""
