// Where computing code gets bytes from: a stored file, held open, or content that was computed before. Pulled by the
// thread that computes; may block.
#pragma once

#include <memory>
#include <string>

#include <capstan/base/error.h>
#include <capstan/base/number.h>
#include <capstan/server/compute/content.h>

namespace capstan::server::compute {

// Belongs to one thread at a time; read once from begin to end.
class Source {
 public:
  virtual ~Source() noexcept(false) = default;

  ElementType type = ElementType::TEXT;
  Encoding encoding = Encoding::LINES;
  std::string name;  // for sentences, not escaped: a path, or empty for values

  // The next bytes, at most `size`, which is not 0; 0 at the end, and only there. At the end it is known whether the
  // file stayed as it was (`changed`). Errors: changed, io; corrupt (content).
  virtual Result<size_t> read(char* to, size_t size) = 0;
  // How many bytes there are in all, as far as is known before.
  virtual uint64_t expectedSize() const = 0;
};

// A file by its descriptor, which `owner` keeps open. It is `changed` if size or time of modification are others at the
// end than they were at construction, or the file ends before its size or goes on behind it; not if another file takes
// its name. `encoding` UNSET means LINES.
std::unique_ptr<Source> sourceOfFile(int fd, std::shared_ptr<const void> owner, std::string name, ElementType type,
                                     Encoding encoding);
std::unique_ptr<Source> sourceOfContent(std::shared_ptr<const Content> content);

}  // namespace capstan::server::compute
