"""Pages as a browser without JavaScript uses them: read, links followed, forms filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import requests

VOID = {"meta", "link", "input", "br"}
BOOLEAN = {"selected", "checked"}


@dataclass
class Form:
    """A form as it would be sent if nothing was changed."""

    method: str
    action: str
    id: str
    fields: dict = field(default_factory=dict)
    names: set = field(default_factory=set)


class Page(HTMLParser):
    """A page: its elements, its text outside of fields, and its forms."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.status = answer, answer.status_code
        self.url, self.html = answer.url, answer.text
        self.tags, self.attributes, self.forms, self.text = [], [], {}, ""
        self._open, self._form, self._select, self._area, self._chosen = [], None, None, None, set()
        self.feed(answer.text)
        self.close()
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        assert len(known) == len(attrs), "no attribute stands twice"
        self.tags.append(tag)
        self.attributes += [(tag, *each) for each in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "form":
            action = known.get("action")
            self._form = Form(known["method"], action, known.get("id"))
            self.forms[known.get("id") or action] = self._form
        if self._form and (name := known.get("name")):
            self._form.names.add(name)
            if tag == "input" and known.get("type") == "checkbox":
                if "checked" in known:
                    self._form.fields[name] = known["value"]
            elif tag == "input" and known.get("type") != "file":
                self._form.fields[name] = known.get("value", "")
            elif tag in {"select", "textarea"}:
                self._select = name if tag == "select" else None
                self._area = name if tag == "textarea" else None
                self._form.fields[name] = ""
        if tag == "option" and self._select:
            is_first = (id(self._form), self._select) not in self._chosen
            if "selected" in known or is_first:
                self._form.fields[self._select] = known["value"]
            self._chosen.add((id(self._form), self._select))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "form":
            self._form = None
        if tag == "textarea" and self._area:
            # A browser leaves out a line break right after the tag.
            self._form.fields[self._area] = self._form.fields[self._area].removeprefix("\n")
            self._area = None
        if tag == "select":
            self._select = None

    def handle_data(self, data):
        if self._area:
            self._form.fields[self._area] += data
        else:
            self.text += data

    def of(self, tag, name):
        """Return the values of an attribute of all elements of a kind."""
        return [value for kind, each, value in self.attributes if (kind, each) == (tag, name)]


class Browser:
    """Keeps cookies, follows redirects, and sends forms."""

    def __init__(self, service):
        self.service = service
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(service.ca) if service.ca else True
        self.session.headers["Accept"] = "text/html,*/*"

    def get(self, path, **more):
        url = path if path.startswith("http") else f"{self.service.url}{path}"
        page = Page(self.session.get(url, timeout=60, **more))
        assert page.status < 500, page.text
        return page

    def send(self, form, files=None, **values):
        """Send a form with these values in it."""
        unknown = set(values) - form.names
        assert not unknown, f"the form has no {unknown}"
        return Page(self.post(form.action, {**form.fields, **values}, files))

    def post(self, path, values, files=None):
        content = (
            {"data": values}
            if files is None
            else {"data": values, "files": [("files", each) for each in files]}
        )
        return self.session.post(f"{self.service.url}{path}", timeout=60, **content)

    def sign_in(self, user, *options):
        """Sign in as a user, who is added at the first call; return the page behind."""
        return self.with_token(self.service.token(user, *options))

    def with_token(self, token):
        return self.send(self.get("/sign-in").forms["/sign-in"], token=token)


def row_of(page, job):
    """Return the row of a job in a list."""
    return re.search(rf'<tr data-job="{job}".*?</tr>', page.html, re.DOTALL)[0]
