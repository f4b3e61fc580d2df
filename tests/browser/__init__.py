"""Tests of the page in a real browser, and the browser itself for other tests."""

from tests.browser.chromium import CAMERA, Page, browse, needs_chromium

__all__ = ["CAMERA", "Page", "browse", "needs_chromium"]
