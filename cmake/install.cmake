# Installs the program, the client library with its headers, and the files by which others find it (CMake package, pkg-config).
