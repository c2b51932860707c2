#include <capstan/client/cli/entry-format.h>

#include <array>
#include <cstdio>
#include <ctime>

#include <capstan/base/text.h>

namespace capstan::cli {

std::string_view nameOf(EntryType type) {
  switch (type) {
    case EntryType::FILE: return "file";
    case EntryType::DIRECTORY: return "directory";
    case EntryType::SYMLINK: return "symlink";
    case EntryType::OTHER:
    case EntryType::UNSET: break;
  }
  return "other";
}

namespace {

std::string octal(uint32_t mode) {
  std::array<char, 16> buffer;
  snprintf(buffer.data(), buffer.size(), "%04o", mode & 07777);
  return buffer.data();
}

char executeLetter(bool execute, bool special, char letter) {
  if (special) return execute ? letter : letter - 'a' + 'A';
  return execute ? 'x' : '-';
}

std::string timeAs(const char* format, int64_t nanoseconds) {
  time_t seconds = nanoseconds / 1'000'000'000 - (nanoseconds % 1'000'000'000 < 0 ? 1 : 0);
  tm broken{};
  std::array<char, 64> buffer{};
  if (localtime_r(&seconds, &broken) == nullptr) return formatTime(nanoseconds);
  strftime(buffer.data(), buffer.size(), format, &broken);
  return buffer.data();
}

}  // namespace

std::string localTime(int64_t nanoseconds) { return timeAs("%Y-%m-%d %H:%M:%S", nanoseconds); }

std::string zonedTime(int64_t nanoseconds) { return timeAs("%Y-%m-%d %H:%M:%S %z", nanoseconds); }

void writeEntry(JsonWriter& json, const Entry& entry) {
  json.beginObject()
      .field("path", entry.path)
      .field("type", nameOf(entry.type))
      .field("size", entry.size)
      .field("mtime", formatTime(entry.mtime))
      .field("mode", octal(entry.mode))
      .field("version", toHex(entry.version))
      .field("cached", entry.cached)
      .key("target");
  if (entry.type == EntryType::SYMLINK) {
    json.value(entry.target);
  } else {
    json.null();
  }
  json.endObject();
}

std::string entryAsJson(const Entry& entry) {
  JsonWriter json;
  writeEntry(json, entry);
  return json.text();
}

std::string modeString(const Entry& entry) {
  uint32_t mode = entry.mode;
  std::string text;
  switch (entry.type) {
    case EntryType::FILE: text = '-'; break;
    case EntryType::DIRECTORY: text = 'd'; break;
    case EntryType::SYMLINK: text = 'l'; break;
    default: text = '?';
  }
  for (int shift = 6; shift >= 0; shift -= 3) {
    uint32_t bits = mode >> shift & 7;
    text += bits & 4 ? 'r' : '-';
    text += bits & 2 ? 'w' : '-';
    bool special = mode & (shift == 6 ? 04000 : shift == 3 ? 02000 : 01000);
    text += executeLetter(bits & 1, special, shift == 0 ? 't' : 's');
  }
  return text;
}

std::string longColumns(const Entry& entry) {
  std::string size = entry.type == EntryType::DIRECTORY ? "-" : formatSize(entry.size);
  if (size.size() < 10) size.insert(0, 10 - size.size(), ' ');
  return modeString(entry) + "  " + size + "  " + localTime(entry.mtime) + (entry.cached ? "  *  " : "     ");
}

std::string statBlock(const Entry& entry, std::string_view name, std::string_view target) {
  std::string text;
  auto line = [&](std::string_view label, std::string_view content) {
    text += label;
    text.append(label.size() < 10 ? 10 - label.size() : 1, ' ');
    text += content;
    text += '\n';
  };
  line("path", name.empty() ? "(the served folder itself)" : name);
  line("type", nameOf(entry.type));
  if (entry.type == EntryType::SYMLINK) line("target", target);
  line("size", entry.size < 1024 ? std::to_string(entry.size) + " bytes"
                                 : std::to_string(entry.size) + " bytes (" + formatSize(entry.size) + ")");
  line("mode", octal(entry.mode) + " " + modeString(entry));
  line("modified", localTime(entry.mtime) + " (" + formatTime(entry.mtime) + ")");
  line("version", toHex(entry.version));
  line("cached", entry.cached ? "yes" : "no");
  return text;
}

}  // namespace capstan::cli
