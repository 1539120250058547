LINES = (
    "\x1b[2J\x1b[H all gone",
    "\x1b]0;owned\x07 a title",
    "\x1b]52;c;bHMK\x07 a clipboard",
    "\x1b]8;;http://example.invalid\x07link\x1b]8;;\x07",
    "secret\rover",
    "\x9b31m C1",
    "\u202egnp.exe",
    "\u2028::error::after a line separator",
    "::set-output name=x::y",
    "::add-mask::a",
    "::stop-commands::x",
    "##vso[task.setvariable variable=x]y",
    "##teamcity[buildStatus status='SUCCESS']",
    "section_start:0:x\r\x1b[0K",
    "in the middle ##[set-output name=x]y",
)


def main(backend, user_messenger):
    for line in LINES:
        print(line)
        user_messenger.publish(line)
    return "".join(LINES)
