// How entries of a file tree look: as JSON, as a line of `ls -l`, as the block of `stat`. Pure.
#pragma once

#include <string>
#include <string_view>

#include <capstan/base/entry.h>
#include <capstan/client/cli/json.h>

namespace capstan::cli {

// "file", "directory", "symlink", "other".
std::string_view nameOf(EntryType type);

// In the reader's own time zone, to the second, as people compare it with their clock.
std::string localTime(int64_t nanoseconds);
// The same with the zone: "2026-11-21 09:16:55 +0000".
std::string zonedTime(int64_t nanoseconds);

// {"path","type","size","mtime","mode","version","cached","target"}; version as hex, target null where it is no
// symlink.
void writeEntry(JsonWriter& json, const Entry& entry);
std::string entryAsJson(const Entry& entry);

// "drwxr-xr-x", as ls has it.
std::string modeString(const Entry& entry);

// "-rw-r--r--      12.3 KiB  2026-11-21 09:16:55  *  " with a '*' where the file is in the server's cache. The name
// comes after it.
std::string longColumns(const Entry& entry);

// The block that `stat` prints for people; `name` and `target` are ready for the terminal.
std::string statBlock(const Entry& entry, std::string_view name, std::string_view target);

}  // namespace capstan::cli
