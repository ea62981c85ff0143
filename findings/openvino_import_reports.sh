#!/bin/sh
# `import openvino` forks a process that reports the import to Google Analytics.
#
# Packages: openvino 2026.4.1, and openvino-telemetry 2025.2.0, which pip installs with it.
# Expect:   importing a library starts no process and contacts nobody, unless the user has agreed to it.
# Found:    the import sends the event "import" with the versions of openvino and the system to
#           www.google-analytics.com, in a forked process, without a question: no file of consent counts as
#           consent. It writes an identifier to ~/intel. A program with threads (JAX warns of it) is forked too.
#           Without the package openvino_telemetry the import does neither, and everything else works.
# Seen:     with openvino_telemetry: 1 process, request to www.google-analytics.com, ~/intel exists
#           without: 0 processes, no request, no ~/intel
# Matters:  a library with OpenVINO as an option reports its users' imports, and forks their programs.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile openvino==2026.4.1 openvino-telemetry==2025.2.0
cat > "$dir/run.py" <<'PYTHON'
import os
import sys
import time
import urllib.parse
import urllib.request

requests = os.path.join(os.environ["HOME"], "requests")


def urlopen(request, *arguments, **options):  # nothing leaves this machine
    with open(requests, "a") as file:
        file.write(urllib.parse.urlsplit(request.full_url).netloc + "\n")


urllib.request.urlopen = urlopen
forks = []
os.register_at_fork(before=lambda: forks.append(1))
if sys.argv[1] == "without":
    sys.modules["openvino_telemetry"] = None
import openvino

time.sleep(2)  # a thread sends it
seen = open(requests).read().split() if os.path.exists(requests) else []
print(sys.argv[1], len(forks), sorted(set(seen)), os.path.exists(os.path.expanduser("~/intel")))
PYTHON
for how in with without; do
  mkdir "$dir/$how"
  HOME="$dir/$how" CI= "$dir/env/bin/python" "$dir/run.py" $how | tee "$dir/$how.txt"
done
grep -q "^with [1-9][0-9]* \['www.google-analytics.com'\] True" "$dir/with.txt"
grep -q "^without 0 \[\] False" "$dir/without.txt"
