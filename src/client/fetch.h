// Fetching the content of one remote file, whole or in part, to a consumer: in one round trip where it fits into the
// first read, as a stream after that, and over broken connections.
#pragma once

#include <kj/function.h>

#include <capstan/client/links.h>
#include <capstan/client/sink-server.h>
#include <capstan/client/transfer-types.h>

namespace capstan::client {

inline constexpr uint64_t FIRST_READ = 256 << 10;  // bytes that are asked for together with `open`

// Where fetched content goes.
class FetchTarget : public ByteConsumer {
 public:
  // Called once, when the file is known and before any content: answers from which offset on content is wanted, which
  // is not less than the fetch's own offset. The file as it is then is `entry`.
  virtual Result<uint64_t> begin(const Entry& entry) = 0;
};

struct FetchRange {
  uint64_t offset = 0;
  uint64_t count = UINT64_MAX;
};

// Answers the file as it was fetched. A file that becomes another one before all of it has arrived is `changed`: what
// the target got is of no use then. `target` must stay valid until the promise resolves or is dropped; `advanced` gets
// the number of bytes each time the target has taken some.
kj::Promise<Result<Entry>> fetch(Links& links, std::string path, FetchRange range, FetchTarget& target,
                                 kj::Function<void(uint64_t)> advanced);

}  // namespace capstan::client
