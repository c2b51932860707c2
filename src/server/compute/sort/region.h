// The one large piece of memory of a sort. It is only reserved: pages that are never touched cost nothing.
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include <kj/common.h>

#include <capstan/base/error.h>

namespace capstan::server::compute {

class Region {
 public:
  // May be read, though not written, this far behind its end.
  static constexpr size_t SLACK = 64;
  // From this size on large pages are worth asking for.
  static constexpr size_t LARGE = 16 << 20;

  // Errors: overloaded.
  static Result<Region> make(size_t size) {
    void* base =
        mmap(nullptr, size + SLACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
      return Error{ErrorCode::OVERLOADED, "there is not enough memory for sorting; try again later", {}};
    }
    if (size >= LARGE) madvise(base, size, MADV_HUGEPAGE);
    return Region(static_cast<char*>(base), size);
  }
  Region(Region&& other) : base(other.base), bytes(other.bytes) { other.base = nullptr; }
  ~Region() {
    if (base != nullptr) munmap(base, bytes + SLACK);
  }
  Region& operator=(Region&&) = delete;
  KJ_DISALLOW_COPY(Region);

  // Gives the memory back until it is written to again; what was in it is gone.
  void forget() const { madvise(base, bytes, MADV_DONTNEED); }

  char* begin() const { return base; }
  char* end() const { return base + bytes; }
  size_t size() const { return bytes; }

 private:
  Region(char* base, size_t bytes) : base(base), bytes(bytes) {}

  char* base;
  size_t bytes;
};

}  // namespace capstan::server::compute
