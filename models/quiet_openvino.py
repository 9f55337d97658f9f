"""OpenVINO as this project imports it: without the module by which it reports its use to its maker.

`openvino_telemetry` keeps an id of the user in the home folder as soon as OpenVINO is imported. Where the module
cannot be imported OpenVINO takes a stub of its own instead, so it is made unimportable first.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402 - after the line above

__all__ = ["openvino"]
