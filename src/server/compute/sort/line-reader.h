// Cuts what a source gives into chunks of whole lines. Belongs to one thread at a time: those that take turns lock.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include <capstan/server/compute/source.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

// Lines one after the other, each ended by a newline.
struct Lines {
  const char* begin = nullptr;
  const char* end = nullptr;
  uint64_t count = 0;
  uint64_t firstNumber = 1;  // of the first one in the input

  size_t bytes() const { return size_t(end - begin); }
};

class LineReader {
 public:
  // Reads about `chunk` bytes at a time. All must outlive it.
  LineReader(Source& source, Work& work, size_t chunk, size_t longestLine)
      : source(source), work(work), chunk(chunk), longestLine(longestLine) {}

  // What next() may write.
  size_t room() const { return putAside.empty() ? begun.size() + chunk + 1 : putAside.front().bytes.size(); }
  // The next lines, written to `to`; none at the end. Errors: those of the source, tooLarge, cancelled. There may be
  // none before the end too, if a line is longer than a chunk: then there is more room() needed. After an error the
  // same one comes again.
  Result<Lines> next(char* to);
  bool atEnd() const { return ended && begun.empty() && putAside.empty(); }

  // Lets next() give these again, at their place in the input, in whatever order they are put back. Nobody may use
  // chunks that next() gave later: those have to be put back too.
  void putBack(const Lines& lines);

 private:
  struct Aside {
    std::string bytes;
    uint64_t count;
    uint64_t firstNumber;
  };

  Source& source;
  Work& work;
  const size_t chunk;
  const size_t longestLine;

  std::string begun;  // of a line whose end was not read yet
  bool ended = false;
  std::optional<Error> failure;
  uint64_t number = 1;         // of the next line to be read
  std::deque<Aside> putAside;  // in the order of the input

  Result<Lines> read(char* to);
  Error tooLong() const;
  Result<size_t> fill(char* to);
};

}  // namespace capstan::server::compute
