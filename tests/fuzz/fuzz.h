// What all fuzzing targets share: checks that end the program with a message, input taken apart into choices, and which
// exceptions are known.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include <kj/common.h>
#include <kj/exception.h>

// Like assert(), but always there; libFuzzer keeps the input.
#define FUZZ_CHECK(condition)                                                \
  do {                                                                       \
    if (!(condition)) ::capstan::fuzz::fail(#condition, __FILE__, __LINE__); \
  } while (false)

namespace capstan::fuzz {

[[noreturn]] inline void fail(const char* condition, const char* file, int line, const char* more = "") {
  fprintf(stderr, "%s:%d: does not hold: %s %s\n", file, line, condition, more);
  abort();
}

// An exception's type is one that there is: KJ formats others from beyond the end of a table.
inline void expectKnown(const kj::Exception& exception) {
  if (uint(exception.getType()) > uint(kj::Exception::Type::UNIMPLEMENTED)) {
    fail("an exception has a type that exists", __FILE__, __LINE__);
  }
}
inline void expectKnown(const kj::Maybe<kj::Exception>& failure) {
  KJ_IF_MAYBE (exception, failure) {
    expectKnown(*exception);
  }
}

// The input as a sequence of choices. At its end every choice is 0, so that each input means something.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : rest(reinterpret_cast<const char*>(data), size) {}

  bool atEnd() const { return rest.empty(); }
  size_t left() const { return rest.size(); }

  uint8_t byte() {
    if (rest.empty()) return 0;
    auto value = uint8_t(rest.front());
    rest.remove_prefix(1);
    return value;
  }
  // Less than `limit`, which is at most 65,536 and not 0.
  unsigned below(unsigned limit) {
    unsigned value = byte();
    if (limit > 256) value |= unsigned(byte()) << 8;
    return value % limit;
  }
  bool chance(unsigned oneIn) { return below(oneIn) == oneIn - 1; }
  std::string_view bytes(size_t count) {
    auto taken = rest.substr(0, count);
    rest.remove_prefix(taken.size());
    return taken;
  }
  std::string_view all() { return bytes(rest.size()); }
  uint64_t number() {
    uint64_t value = 0;
    auto taken = bytes(sizeof(value));
    memcpy(&value, taken.data(), taken.size());
    return value;
  }

 private:
  std::string_view rest;
};

}  // namespace capstan::fuzz
