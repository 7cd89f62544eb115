"""All calls of the native API. Each takes a Call and returns JSON or a Response."""

from b2sdk._internal.exception import B2Error

from . import account, files, listing, uploads
from .http import Response
from .world import ApiError

CALLS = {name: function for module in (account, listing, uploads, files)
         for name, function in vars(module).items() if name.startswith("b2_")}
UPLOADS = ("b2_upload_file", "b2_upload_part")
DOWNLOADS = ("b2_download_file_by_name", "b2_download_file_by_id")


def answer(call):
    """The Response to a call, errors included."""
    try:
        with call.world.lock:
            value = CALLS[call.name](call)
    except ApiError as error:
        return Response.of_error(error.status, error.code, error.message, error.headers)
    except B2Error as error:
        return Response.of_error(400, "bad_request", "%s: %s" % (type(error).__name__, error))
    return value if isinstance(value, Response) else Response.of_json(value)
