#!/usr/bin/env bash
# Fetches Apache Spark (as the pyspark package), Apache Livy, Apache Knox and Apache Hadoop YARN (from Maven Central) into a cache outside
# the tree. Prints the folders it made, as shell assignments: SPARK_VENV=... LIVY_JARS=... KNOX=... YARN_JARS=...
# Running it again costs nothing: each part is complete or absent, never half there.
set -euo pipefail

SPARK_VERSION=3.5.6
LIVY_VERSION=0.7.1-incubating
KNOX_VERSION=2.0.0
HADOOP_VERSION=3.4.1
CACHE=${LIVY_GATEWAY_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/livy-gateway-tests}

need() { command -v "$1" >/dev/null || { echo "tests/real needs '$1' on the PATH ($2)" >&2; exit 3; }; }
need java "a JDK 17"
need mvn "Apache Maven"
need python3 "Python 3 with venv"
# Two runs at once would fetch into each other.
mkdir -p "$CACHE"
exec 9> "$CACHE/lock"
flock 9

spark=$CACHE/pyspark-$SPARK_VERSION
if [ ! -d "$spark" ]; then
  echo "fetching pyspark $SPARK_VERSION into $spark" >&2
  rm -rf "$spark.part"
  python3 -m venv "$spark.part"
  "$spark.part/bin/pip" install --quiet --disable-pip-version-check "pyspark==$SPARK_VERSION" >&2 ||
    { echo "could not download pyspark $SPARK_VERSION from the Python package index; check the network and run again" >&2; exit 3; }
  mv "$spark.part" "$spark"
fi

# The jars of the dependencies on stdin, with all that they need, into FOLDER/jars; more arguments are Maven's.
maven() { # NAME FOLDER [ARGUMENT...]
  echo "fetching $1 into ${2%.part}" >&2
  mkdir -p "$2/jars"
  cat > "$2/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>livy-gateway.tests</groupId><artifactId>packages</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>$(cat)</dependencies>
</project>
POM
  (cd "$2" && mvn -B -q "${@:3}" dependency:copy-dependencies -DoutputDirectory=jars -DincludeScope=runtime) >&2 ||
    { echo "could not download $1 from Maven Central; check the network and run again" >&2; exit 3; }
}
dependency() { # GROUP ARTIFACT VERSION [MORE XML]
  echo "<dependency><groupId>$1</groupId><artifactId>$2</artifactId><version>$3</version>${4:-}</dependency>"
}

livy=$CACHE/livy-$LIVY_VERSION
if [ ! -d "$livy" ]; then
  rm -rf "$livy.part"
  dependency org.apache.livy livy-server "$LIVY_VERSION" | maven "Apache Livy $LIVY_VERSION" "$livy.part"
  mv "$livy.part" "$livy"
fi

knox=$CACHE/knox-$KNOX_VERSION
if [ ! -d "$knox" ]; then
  rm -rf "$knox.part" && mkdir -p "$knox.part/nowhere"
  # Its POMs name repositories that are gone; the mirror makes Maven pass over them at once. What is excluded lives only there.
  cat > "$knox.part/settings.xml" <<SETTINGS
<settings><mirrors><mirror>
  <id>nowhere</id><mirrorOf>external:*,!central</mirrorOf><url>file://$knox.part/nowhere</url>
</mirror></mirrors></settings>
SETTINGS
  exclusion() { echo "<exclusion><groupId>$1</groupId><artifactId>$2</artifactId></exclusion>"; }
  gone="$(exclusion org.jetbrains.pty4j '*')$(exclusion org.apache.knox gateway-provider-security-pac4j)$(exclusion org.apache.knox gateway-discovery-cm)"
  dependency org.apache.knox gateway-release "$KNOX_VERSION" "<exclusions>$gone</exclusions>" |
    maven "Apache Knox $KNOX_VERSION" "$knox.part" -s settings.xml
  (cd "$knox.part" && python3 - <<'PY'
import glob, zipfile
with zipfile.ZipFile(glob.glob("jars/gateway-service-definitions-*.jar")[0]) as jar:
    jar.extractall(".", [name for name in jar.namelist() if name.startswith("services/livy/")])
PY
  )
  mv "$knox.part" "$knox"
fi

yarn=$CACHE/yarn-$HADOOP_VERSION
if [ ! -d "$yarn" ]; then
  rm -rf "$yarn.part"
  # The web pages of a ResourceManager want the timeline service's classes, although none is run.
  for artifact in common yarn-server-resourcemanager yarn-server-nodemanager yarn-server-timelineservice; do
    dependency org.apache.hadoop "hadoop-$artifact" "$HADOOP_VERSION"
  done | maven "Apache Hadoop YARN $HADOOP_VERSION" "$yarn.part"
  mv "$yarn.part" "$yarn"
fi

echo "SPARK_VENV=$spark"
echo "LIVY_JARS=$livy/jars"
echo "KNOX=$knox"
echo "YARN_JARS=$yarn/jars"
