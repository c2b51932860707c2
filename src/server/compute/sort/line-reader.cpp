#include <capstan/server/compute/sort/line-reader.h>

#include <algorithm>
#include <cstring>

#include <capstan/base/text.h>

namespace capstan::server::compute {

Result<size_t> LineReader::fill(char* to) {
  size_t got = 0;
  while (got < chunk) {
    if (work.cancelled()) return cancelledError();
    auto read = source.read(to + got, chunk - got);
    if (!read) return read.error();
    if (*read == 0) {
      ended = true;
      break;
    }
    got += *read;
    work.advance(*read);
  }
  return got;
}

Result<Lines> LineReader::next(char* to) {
  if (!putAside.empty()) {
    Aside& aside = putAside.front();
    memcpy(to, aside.bytes.data(), aside.bytes.size());
    Lines lines{to, to + aside.bytes.size(), aside.count, aside.firstNumber};
    putAside.pop_front();
    return lines;
  }
  if (failure) return *failure;
  auto lines = read(to);
  if (!lines) failure = lines.error();
  return lines;
}

Result<Lines> LineReader::read(char* to) {
  const size_t before = begun.size();
  size_t size = before;
  if (size != 0) memcpy(to, begun.data(), size);
  if (!ended) {
    auto got = fill(to + size);
    if (!got) return got.error();
    size += *got;
  }
  if (ended && size != 0 && to[size - 1] != '\n') to[size++] = '\n';
  auto last = static_cast<const char*>(memrchr(to, '\n', size));
  size_t whole = last == nullptr ? 0 : size_t(last + 1 - to);
  auto first = static_cast<const char*>(memchr(to + before, '\n', size - before));
  // A line that lies within one chunk is never too long.
  if (before != 0 && size_t((first == nullptr ? to + size : first) - to) > longestLine) return tooLong();
  Lines lines{to, to + whole, uint64_t(std::count(to, to + whole, '\n')), number};
  number += lines.count;
  begun.assign(to + whole, size - whole);
  return lines;
}

Error LineReader::tooLong() const {
  std::string sentence = source.name.empty() ? "" : escapeForTerminal(source.name) + ", ";
  sentence += "line " + std::to_string(number) + " is longer than the " + formatSize(longestLine) +
              " that a line may have in this sort";
  return {ErrorCode::TOO_LARGE, std::move(sentence), source.name};
}

void LineReader::putBack(const Lines& lines) {
  auto later = std::find_if(putAside.begin(), putAside.end(),
                            [&](const Aside& aside) { return aside.firstNumber > lines.firstNumber; });
  putAside.insert(later, {std::string(lines.begin, lines.bytes()), lines.count, lines.firstNumber});
}

}  // namespace capstan::server::compute
