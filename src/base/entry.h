// What one place in a file tree is, and what may be asked of it: entries, expectations, attributes, as plain data that
// may cross threads. They mirror schema/files.capnp, where their meaning is documented.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <capstan/base/digest.h>

namespace capstan {

enum class EntryType : uint16_t { UNSET, FILE, DIRECTORY, SYMLINK, OTHER };  // the numbers of Entry.Type

using Version = std::string;  // opaque, at most 32 bytes

struct Entry {
  std::string path;  // raw bytes
  EntryType type = EntryType::UNSET;
  uint64_t size = 0;
  int64_t mtime = 0;  // nanoseconds since the epoch
  uint32_t mode = 0;
  Version version;
  bool cached = false;
  std::string target;
  uint64_t identity = 0;  // the same after a rename; 0: not known
};

struct Expectation {
  enum class Kind { ANY, ABSENT, VERSION, IDENTITY };
  Kind kind = Kind::ANY;
  Version version;
  uint64_t identity = 0;
};

struct Attributes {
  std::optional<uint32_t> mode;
  std::optional<int64_t> mtime;
};

struct ContentCheck {
  std::optional<uint64_t> size;
  DigestAlgorithm algorithm = DigestAlgorithm::UNSET;  // UNSET: the digest is not checked
  std::string digest;
};

}  // namespace capstan
