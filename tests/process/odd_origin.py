"""An origin whose answers to Range are each right in its own way, or wrong (RFC 9110, 14 and 15.3.7), for reports_test.
   odd_origin.py PORT FILE: /KIND/x is FILE, whatever x."""
import email.utils, itertools, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

data = open(sys.argv[2], "rb").read()
turn = itertools.count()
refused = set()


class Odd(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        print(self.path, self.headers.get("Range"), flush=True)

    def answer(self, code, body, headers):
        self.log_message()
        self.send_response_only(code)
        for name, value in {"ETag": '"one"', **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def do_GET(self):
        kind = self.path.split("/")[1]
        total = len(data)
        if kind == "busy" and kind not in refused:
            refused.add(kind)
            return self.answer(503, b"", {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)})
        servers = {"turns": 2, "fickle": 1_000_000}.get(kind)
        etag = {"ETag": '"%d"' % (next(turn) % servers)} if servers else {}
        wanted = self.headers.get("Range")
        if wanted is None or (servers and self.headers.get("If-Range") not in (None, etag["ETag"])):
            return self.answer(200, data, etag)
        first, last = (int(n) for n in wanted.split("=")[1].split("-"))
        last = min(last, total - 1)
        unit, size = "bytes", str(total)
        if kind == "star":
            size = "*"
        elif kind == "case":
            unit = "Bytes"
        elif kind == "early":
            first = max(0, first - 1000)
        elif kind == "late":
            last = min(total - 1, last + 1000)
        elif kind == "short":
            last = min(last, first + 99_999)
        elif kind == "scanty":
            last = min(last, first + 999)
        elif kind == "after":
            first = min(first + 10, last)
        body = data[first:last + 1]
        if kind == "parts":
            mark = b"mark"
            body = b"--%s\r\nContent-Range: bytes %d-%d/%d\r\n\r\n%s\r\n--%s--\r\n" % (mark, first, last, total, body, mark)
            return self.answer(206, body, {"Content-Type": "multipart/byteranges; boundary=mark"})
        self.answer(206, body, {"Content-Range": f"{unit} {first}-{last}/{size}", **etag})


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Odd).serve_forever()
