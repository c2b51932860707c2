// The names in one folder at one moment, sorted by their bytes, in little memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

// Immutable once read; may be shared by threads.
class Names {
 public:
  // Reads the whole folder (which must be open for reading, and not be read by anybody else meanwhile). `path` is for
  // errors. What is there throughout is in it exactly once. Blocks.
  static Result<Names> read(int folder, std::string_view path);

  size_t size() const { return starts.size(); }
  std::string_view operator[](size_t position) const;
  // The position of the first name that is not less than this one.
  size_t lowerBound(std::string_view name) const;

  FileId folder() const { return id; }
  size_t memory() const { return bytes.capacity() + starts.capacity() * sizeof(uint32_t) + sizeof(*this); }

 private:
  FileId id;
  std::string bytes;             // names, each with a NUL after it
  std::vector<uint32_t> starts;  // in the order of the names
};

}  // namespace capstan::storage
