"""What every run of the tests tries in a browser: one person's way from a token to a result."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.page.conftest import PROGRAMS


def test_one_signs_in_with_a_token_and_out(service, visitor):
    page = visitor.page
    token = service.token("alice")
    visitor.see("/jobs")
    expect(page).to_have_url(f"{service.url}/sign-in?next=/jobs")
    page.get_by_label("Your token").fill("qr_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("Your token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{service.url}/jobs")
    page.get_by_role("button", name="Sign out").click()
    visitor.see("/jobs")
    expect(page.get_by_label("Your token")).to_be_visible()


def test_a_program_is_uploaded_and_run_after_a_mistake_in_both(visitor, tmp_path):
    visitor.sign_in("alice")
    page = visitor.page
    source, manifest = tmp_path / "program.py", tmp_path / "program.yaml"
    source.write_text((PROGRAMS / "ticker.py").read_text())
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Programs").click()
    page.get_by_role("link", name="Upload a program").click()
    manifest.write_text(MANIFEST.replace("minimum: 1", "minimum: one"))
    page.get_by_label("Files").set_input_files([source, manifest])
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("line 7")
    manifest.write_text(MANIFEST)
    page.get_by_label("Files").set_input_files([source, manifest])
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("ticker")

    field = page.get_by_label("messages")
    expect(field).to_have_value("20")
    field.fill("0")
    run = page.get_by_role("button", name="Run", exact=True)
    run.click()  # the browser itself holds back what is out of range
    assert field.evaluate("field => field.validity.rangeUnderflow")
    page.locator("#run").evaluate("form => { form.noValidate = true }")
    run.click()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("0")
    field.fill("50")
    page.get_by_label("pause_s").fill("2")
    run.click()
    expect(page.locator("#messages li")).to_have_count(50)
    expect(page.locator("#series figure")).to_contain_text("energy")
    expect(page.locator("#outcome")).to_contain_text("Completed")
    expect(page.locator("#result")).to_contain_text("512")


MANIFEST = """\
name: ticker
description: Ticks.
parameters:
  properties:
    messages:
      type: integer
      minimum: 1
      default: 20
    rate: {type: number}
    pause_s: {type: number}
    pad: {type: integer}
"""


def test_hostile_texts_stay_text_and_the_policy_is_strict(service, visitor):
    hostile = "<script>canary('script')</script><img src=x onerror=canary('img')>"
    program = service.upload(program="hostile", directory=PROGRAMS, name="hostile")
    job = service.run(program, texts=[hostile], fail=False)
    service.wait(job)
    visitor.sign_in("alice")
    answer = visitor.see(f"/jobs/{job}")
    assert hostile in visitor.page.locator("#messages").text_content()
    assert visitor.page.locator("main :is(script, img)").count() == 0
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert not [each for each in policy if "unsafe" in each or "http" in each or "*" in each]
