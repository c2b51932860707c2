#include <capstan/server/compute/sort/run-file.h>

#include <algorithm>
#include <cstring>

namespace capstan::server::compute {

RunCursor::RunCursor(const Run& run, const LineOrder& order, size_t bufferBytes, Work& work)
    : run(run),
      order(order),
      bufferBytes(bufferBytes),
      headerBytes(LineRun::hasHeaders(order) ? sizeof(LineHeader) : sizeof(uint32_t)),
      work(work),
      buffer(new char[bufferBytes + TEXT_SLACK]) {}

bool RunCursor::fill(size_t wanted) {
  memmove(buffer.get(), buffer.get() + begin, end - begin);
  end -= begin;
  begin = 0;
  while (end < wanted) {
    if (work.cancelled()) {
      failure = cancelledError();
      atEnd = true;
      return false;
    }
    auto read = run.file->readAt(offset, buffer.get() + end, bufferBytes - end);
    if (!read) failure = read.error();
    if (read && *read == 0 && end != 0) {
      failure = Error{ErrorCode::CORRUPT, "a temporary file of the sort ends too early", {}};
    }
    if (!read || *read == 0) {
      atEnd = true;
      return false;
    }
    end += *read;
    offset += *read;
    work.advance(*read);
  }
  return true;
}

bool RunCursor::nextLine() {
  if (end - begin < headerBytes && !fill(headerBytes)) return false;
  uint32_t length;
  memcpy(&length, buffer.get() + begin + headerBytes - sizeof(length), sizeof(length));
  if (end - begin < headerBytes + length && !fill(headerBytes + length)) return false;
  const char* record = buffer.get() + begin;
  current = {record + headerBytes, length};
  if (headerBytes == sizeof(LineHeader)) {
    memcpy(&currentKey, record, sizeof(currentKey));
  } else {
    currentKey = order.prefix(current, 0);
  }
  begin += headerBytes + length;
  return true;
}

void RunCursor::writeInt() {
  char* textEnd = formatInt(order.intOfKey(currentKey), intText);
  current = {intText, size_t(textEnd - intText)};
}

}  // namespace capstan::server::compute
