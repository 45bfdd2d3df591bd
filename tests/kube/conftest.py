"""The tests of the chart need Helm as a library: the extra `kube`. Without it they are not collected."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("helm_python") else ["test_*.py"]
