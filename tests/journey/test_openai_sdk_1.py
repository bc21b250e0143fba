"""The same journey with the first line of OpenAI's client, which many programs still pin."""

import subprocess
import sys
from pathlib import Path

import pytest

JOURNEY = Path(__file__).with_name("test_openai_sdk.py")
# The older client is ahead of the other in the process that tests, and nowhere else.
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import pytest
code = pytest.main(["-q", "-p", "no:schemathesis", sys.argv[2]])
import openai
print("with openai", openai.__version__)
sys.exit(code)
"""


@pytest.mark.long
def test_the_first_line_of_the_client_makes_the_same_journey(tmp_path: Path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path)]
    if subprocess.run([*install, "openai<2"], check=False).returncode:
        pytest.skip("the client cannot be installed: is there a package index?")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), str(JOURNEY)],
        cwd=JOURNEY.parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "with openai 1." in done.stdout
