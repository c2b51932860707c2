#include <capstan/storage/trash-journal.h>

#include <time.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include <xxhash.h>

#include <capstan/base/file.h>

namespace capstan::storage {

namespace {

constexpr size_t HEADER_BYTES = 8;
constexpr uint32_t MAX_RECORD_BYTES = 64 << 10;

template <typename T>
void put(std::string& to, T number) {
  for (size_t i = 0; i < sizeof(T); ++i) to.push_back(char(uint64_t(number) >> (8 * i)));
}

void putText(std::string& to, std::string_view text) {
  put(to, uint32_t(text.size()));
  to.append(text);
}

uint32_t checksumOf(std::string_view payload) { return uint32_t(XXH3_64bits(payload.data(), payload.size())); }

// Takes fields off the front; what is missing makes it not good.
struct Parser {
  std::string_view rest;
  bool good = true;

  template <typename T>
  T take() {
    if (rest.size() < sizeof(T)) return good = false, T();
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof(T); ++i) number |= uint64_t(uint8_t(rest[i])) << (8 * i);
    rest.remove_prefix(sizeof(T));
    return T(number);
  }
  std::string takeText() {
    auto size = take<uint32_t>();
    if (!good || rest.size() < size) return good = false, std::string();
    std::string text(rest.substr(0, size));
    rest.remove_prefix(size);
    return text;
  }
};

std::optional<RunRecord> decode(std::string_view payload) {
  Parser parser{payload};
  RunRecord record;
  record.kind = RunRecord::Kind(parser.take<uint8_t>());
  record.number = parser.take<uint64_t>();
  record.time = parser.take<int64_t>();
  record.path = parser.takeText();
  record.from = parser.takeText();
  record.after = parser.takeText();
  record.type = EntryType(parser.take<uint16_t>());
  record.mode = parser.take<uint32_t>();
  record.mtime = parser.take<int64_t>();
  record.inode = parser.take<uint64_t>();
  if (!parser.rest.empty()) record.placed = parser.take<uint64_t>();  // not in older journals
  if (!parser.good) return {};
  return record;
}

}  // namespace

std::string encode(const RunRecord& record) {
  std::string payload;
  put(payload, uint8_t(record.kind));
  put(payload, record.number);
  put(payload, record.time);
  putText(payload, record.path);
  putText(payload, record.from);
  putText(payload, record.after);
  put(payload, uint16_t(record.type));
  put(payload, record.mode);
  put(payload, record.mtime);
  put(payload, record.inode);
  put(payload, record.placed);
  std::string framed;
  put(framed, uint32_t(payload.size()));
  put(framed, checksumOf(payload));
  return framed + payload;
}

// Neither ids nor paths have a NUL.
std::string encode(const RunScope& scope) {
  if (scope.holder.empty() && scope.top.empty()) return {};
  return scope.holder + '\0' + scope.top;
}

RunScope scopeOf(const std::vector<RunRecord>& records) {
  if (records.empty() || records.front().kind != RunRecord::Kind::BEGIN) return {};
  const std::string& text = records.front().after;
  size_t end = text.find('\0');
  if (end == std::string::npos) return {};
  return {text.substr(0, end), text.substr(end + 1)};
}

Error noSuchRun(const std::string& name) {
  return {ErrorCode::NOT_FOUND, "the trash has no run " + name + "; see which there are", {}};
}

Journal decodeJournal(std::string_view bytes) {
  Journal journal;
  while (bytes.size() >= HEADER_BYTES) {
    Parser header{bytes};
    auto size = header.take<uint32_t>();
    auto checksum = header.take<uint32_t>();
    if (size > MAX_RECORD_BYTES || header.rest.size() < size) break;
    std::string_view payload = header.rest.substr(0, size);
    if (checksumOf(payload) != checksum) break;
    auto record = decode(payload);
    if (!record) break;
    journal.records.push_back(std::move(*record));
    journal.bytes += HEADER_BYTES + size;
    bytes.remove_prefix(HEADER_BYTES + size);
  }
  return journal;
}

Result<Journal> readJournal(int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) return errorFromErrno(errno, "cannot read a journal of the trash");
  std::string bytes(size_t(status.st_size), '\0');
  ssize_t n = readAt(fd, bytes.data(), bytes.size(), 0);
  if (n < 0) return errorFromErrno(errno, "cannot read a journal of the trash");
  return decodeJournal(std::string_view(bytes).substr(0, size_t(n)));
}

bool hasGaps(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && (status.st_mode & S_IXUSR) != 0;
}

CutOff cutOff(const std::vector<RunRecord>& records) {
  for (auto record = records.rbegin(); record != records.rend(); ++record) {
    if (record->kind == RunRecord::Kind::CLOSED) return CutOff::NO;
    if (record->kind == RunRecord::Kind::OPENED) {
      return record->path == bootId() ? CutOff::BY_KILL : CutOff::WITH_SYSTEM;
    }
  }
  return CutOff::NO;
}

const std::string& bootId() {
  static const std::string id = [] {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string line;
    std::getline(file, line);
    return line;
  }();
  return id;
}

int64_t nowNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return toNanoseconds(now);
}

}  // namespace capstan::storage
