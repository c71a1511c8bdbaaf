# A JDK of 17 or newer, and Maven.
java_setup() {
  jdk_there || need "$(jdk_package)"
  need mvn=maven
  # A JDK that apt put beside an older one is not the first on the PATH.
  jdk_there || export JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64
  jdk_there || die "finds no JDK of 17 or newer: set JAVA_HOME to one, or put its javac on the PATH"
}

jdk_there() {
  local found
  found=$("${JAVA_HOME:+$JAVA_HOME/bin/}javac" -version 2>&1) || return 1
  at_least "${found#javac }" 17
}

# default-jdk-headless (version 2:1.17-74 means Java 17), or Java 17 by name where the default is older.
jdk_package() {
  local version
  apt_lists default-jdk-headless >&2
  version=$(apt_candidate default-jdk-headless)
  if at_least "${version#*:1.}" 17; then echo default-jdk-headless; else echo openjdk-17-jdk-headless; fi
}
