"""`urllib.request` by way of the platform, for what is written for it: a component has no sockets."""

# mypy: ignore-errors
import email.message
import io
import urllib.error
import urllib.request
import urllib.response

from . import _host
from ._errors import FetchError


class _Handler(urllib.request.BaseHandler):
    def http_open(self, request):
        headers = [(name.lower(), value) for name, value in request.header_items()]
        headers = [(name, value) for name, value in headers if name not in ("host", "connection")]
        timeout = request.timeout if isinstance(request.timeout, (int, float)) else None
        body = request.data or b""
        try:
            status, received, content = _host.host.fetch(request.get_method(), request.full_url, headers, body, timeout)
        except FetchError as error:
            raise urllib.error.URLError(str(error)) from None
        message = email.message.Message()
        for name, value in received:
            message[name] = value
        answer = urllib.response.addinfourl(io.BytesIO(content), message, request.full_url, status)
        answer.msg = str(status)
        return answer

    https_open = http_open
    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


_Handler._debuglevel = 0
_opener = urllib.request.OpenerDirector()
for _made in (
    _Handler(),
    urllib.request.HTTPDefaultErrorHandler(),
    urllib.request.HTTPRedirectHandler(),
    urllib.request.HTTPErrorProcessor(),
):
    _opener.add_handler(_made)
urllib.request.install_opener(_opener)
