// Moving one thing to the place of another under an expectation, so that nothing that another program wrote meanwhile
// is lost: the one place where something in the tree is displaced.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/storage/disk.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

// From one name to another; `path` is what errors call the target. Borrows everything.
struct Move {
  Disk& disk;
  int fromFolder;
  const std::string& from;
  int toFolder;
  const std::string& to;
  const std::string& path;
};

// All of these block. What is at `from` afterwards:
enum class Left { NOTHING, DISPLACED };

// rename(2): whatever is at the target is replaced, as far as the kernel's rules allow.
Status moveOver(const Move& move);

// Only if nothing is there: otherwise `exists`.
Status moveToAbsent(const Move& move);

// Only if what is at the target is still what `expected` says, and no other program has it open for writing: otherwise
// `conflict` (or notFound), and it is put back. What was displaced is at `from` afterwards; on file systems without
// RENAME_EXCHANGE it is gone. After a conflict what was to be moved is at `from` again, unless a third program has
// replaced it in the moment that it was in place: then something older of that program's is there.
Result<Left> moveOverExpected(const Move& move, const struct stat& expected);

// As the expectation says; `found` is what was seen at the target, checked already.
Result<Left> moveAs(const Move& move, const Expectation& expectation, const std::optional<struct stat>& found);

// Whether what is at the name is what was seen before some rename, and no program has it open for writing, so that it
// stays so once nobody can reach it by name.
bool isUnchanged(int folder, const std::string& name, const struct stat& expected);

// fstatat without following; nothing if nothing is there.
Result<std::optional<struct stat>> lookAt(int folder, const std::string& name, const std::string& path);

// What is there now, without following; with a symlink's target. `path` goes into the entry.
Result<Entry> entryAt(int folder, const std::string& name, const std::string& path);

inline bool isSameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace capstan::storage
