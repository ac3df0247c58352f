"""The browser used to test the page and the report."""

import shutil

import pytest
from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"none of these browsers is installed: {', '.join(BROWSERS)}"
)

# The lowest contrast of a visible text with the color behind it
# Source: WCAG 2.2, relative luminance and contrast ratio, https://www.w3.org/TR/WCAG22/
LOWEST_CONTRAST = """() => {
  const rgba = color => color.match(/[\\d.]+/g).map(Number)
  const luminance = color => {
    const [r, g, b] = color.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = rgba(getComputedStyle(e).backgroundColor)
      if (a > 0.9) return [r, g, b]
    }
    return [255, 255, 255]
  }
  const ratios = [...document.querySelectorAll("main *")].filter(e => e.offsetParent && !e.closest("footer")
    && [...e.childNodes].some(node => node.nodeType == 3 && node.textContent.trim())).map(e => {
    const pair = [luminance(rgba(getComputedStyle(e).color).slice(0, 3)), luminance(behind(e))].sort((a, b) => b - a)
    return (pair[0] + 0.05) / (pair[1] + 0.05)
  })
  return Math.min(...ratios)
}"""


def open_tab(page: Page, name: str) -> None:
    """Open a tab of the page; on a phone, some are in a menu."""
    button = page.get_by_role("tab", name=name).locator("visible=true")
    if button.count() == 0:
        page.locator(".overflow-menu > button").click()
        button = page.locator(".overflow-dropdown button").get_by_text(name)
    button.first.click()
