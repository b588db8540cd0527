#!/usr/bin/env bash
# Build the environment and run the tests: the fast tier; with --slow the real end-to-end runs, too; with --all also every
# further case of what those two show once. Further arguments go to pytest.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
bash scripts/setup.sh
tier="not slow and not evidence"
profile=()
case "${1:-}" in
  --slow) slow="slow and not evidence" ;;
  --all)
    slow="slow or evidence"
    profile=(--hypothesis-profile=all)
    ;;
esac
[ -z "${slow:-}" ] || shift
# Two processes share the cores: a thread that waits for another is to leave its core soon.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
pytest=(.venv/bin/python -m pytest --durations=15 -n 2 --dist loadfile "${profile[@]}")
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "${pytest[@]}" -m "$tier" "$@"
if [ -n "${slow:-}" ]; then
  OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "${pytest[@]}" -m "($slow) and not training" "$@"
  "${pytest[@]}" -m "($slow) and training" "$@"
fi
