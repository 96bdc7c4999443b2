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

livy=$CACHE/livy-$LIVY_VERSION
if [ ! -d "$livy" ]; then
  echo "fetching Apache Livy $LIVY_VERSION into $livy" >&2
  rm -rf "$livy.part" && mkdir -p "$livy.part/jars"
  cat > "$livy.part/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>livy-gateway.tests</groupId><artifactId>livy</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.livy</groupId><artifactId>livy-server</artifactId><version>$LIVY_VERSION</version>
  </dependency></dependencies>
</project>
POM
  (cd "$livy.part" && mvn -B -q dependency:copy-dependencies -DoutputDirectory=jars -DincludeScope=runtime) >&2 ||
    { echo "could not download Apache Livy $LIVY_VERSION from Maven Central; check the network and run again" >&2; exit 3; }
  mv "$livy.part" "$livy"
fi

echo "SPARK_VENV=$spark"
echo "LIVY_JARS=$livy/jars"

knox=$CACHE/knox-$KNOX_VERSION
if [ ! -d "$knox" ]; then
  echo "fetching Apache Knox $KNOX_VERSION into $knox" >&2
  rm -rf "$knox.part" && mkdir -p "$knox.part/jars" "$knox.part/nowhere"
  # Its POMs name repositories that are gone; the mirror makes Maven pass over them at once. What is excluded lives only there.
  cat > "$knox.part/settings.xml" <<SETTINGS
<settings><mirrors><mirror>
  <id>nowhere</id><mirrorOf>external:*,!central</mirrorOf><url>file://$knox.part/nowhere</url>
</mirror></mirrors></settings>
SETTINGS
  cat > "$knox.part/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>livy-gateway.tests</groupId><artifactId>knox</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.knox</groupId><artifactId>gateway-release</artifactId><version>$KNOX_VERSION</version>
    <exclusions>
      <exclusion><groupId>org.jetbrains.pty4j</groupId><artifactId>*</artifactId></exclusion>
      <exclusion><groupId>org.apache.knox</groupId><artifactId>gateway-provider-security-pac4j</artifactId></exclusion>
      <exclusion><groupId>org.apache.knox</groupId><artifactId>gateway-discovery-cm</artifactId></exclusion>
    </exclusions>
  </dependency></dependencies>
</project>
POM
  (cd "$knox.part" && mvn -B -q -s settings.xml dependency:copy-dependencies -DoutputDirectory=jars -DincludeScope=runtime) >&2 ||
    { echo "could not download Apache Knox $KNOX_VERSION from Maven Central; check the network and run again" >&2; exit 3; }
  (cd "$knox.part" && python3 - <<'PY'
import glob, zipfile
with zipfile.ZipFile(glob.glob("jars/gateway-service-definitions-*.jar")[0]) as jar:
    jar.extractall(".", [name for name in jar.namelist() if name.startswith("services/livy/")])
PY
  )
  mv "$knox.part" "$knox"
fi
echo "KNOX=$knox"

yarn=$CACHE/yarn-$HADOOP_VERSION
if [ ! -d "$yarn" ]; then
  echo "fetching Apache Hadoop YARN $HADOOP_VERSION into $yarn" >&2
  rm -rf "$yarn.part" && mkdir -p "$yarn.part/jars"
  dependency() { echo "<dependency><groupId>org.apache.hadoop</groupId><artifactId>$1</artifactId><version>$HADOOP_VERSION</version></dependency>"; }
  # The web pages of a ResourceManager want the timeline service's classes, although none is run.
  cat > "$yarn.part/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>livy-gateway.tests</groupId><artifactId>yarn</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    $(for artifact in common yarn-server-resourcemanager yarn-server-nodemanager yarn-server-timelineservice; do dependency "hadoop-$artifact"; done)
  </dependencies>
</project>
POM
  (cd "$yarn.part" && mvn -B -q dependency:copy-dependencies -DoutputDirectory=jars -DincludeScope=runtime) >&2 ||
    { echo "could not download Apache Hadoop YARN $HADOOP_VERSION from Maven Central; check the network and run again" >&2; exit 3; }
  mv "$yarn.part" "$yarn"
fi
echo "YARN_JARS=$yarn/jars"
