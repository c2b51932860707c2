// Another user for a while, since the superuser may read everything: for tests of what may not be read.
#pragma once

#include <unistd.h>

#include <kj/debug.h>

namespace capstan::storage {

// The whole process, with all of its threads, is nobody as long as this lives; it stays who it is unless it is root.
class AsNobody {
 public:
  AsNobody() : wasRoot(geteuid() == 0) {
    if (wasRoot) {
      KJ_SYSCALL(seteuid(65534));
    }
  }
  ~AsNobody() noexcept(false) {
    if (wasRoot) {
      KJ_SYSCALL(seteuid(0));
    }
  }
  KJ_DISALLOW_COPY(AsNobody);

 private:
  const bool wasRoot;
};

}  // namespace capstan::storage
