// The local side of transfers: folders held open, so that what a server lists can never lead out of them, and the few
// operations that transfers need below them. Nothing here follows a symlink in the last name. All of it blocks,
// shortly.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <kj/io.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>

namespace capstan::client {

// A folder held open (O_PATH); shared by the transfers below it.
using FolderHandle = std::shared_ptr<kj::AutoCloseFd>;

// A name in a folder: where something is or will be.
struct LocalPlace {
  FolderHandle folder;
  std::string name;   // one component
  std::string shown;  // the whole path, for sentences
};

// The place that a path given by the user names. Symlinks on the way are the user's own and are followed.
Result<LocalPlace> openPlace(const std::string& path, bool makeParents);

// The folder at `place`. A symlink there is notDirectory.
Result<FolderHandle> openFolder(const LocalPlace& place);
// The same, made if nothing is there. One that its owner cannot write is made writable: its mode is set at the end.
// `mode`: of a new one, less the umask; its owner can always write.
Result<FolderHandle> makeFolder(const LocalPlace& place, unsigned mode = 0777);

// The place of "a/b/name" below `root`, component by component, without following any symlink.
Result<LocalPlace> placeBelow(const FolderHandle& root, std::string_view relative, const std::string& shownRoot);

// A symlink in place of whatever file or symlink is there, in one step.
Status makeSymlink(const LocalPlace& place, const std::string& target, bool overwrite);

// Mode (less setuid and setgid where it is a file's) and mtime.
Status setFolderMetadata(const LocalPlace& place, const Entry& entry);
Status setLinkTime(const LocalPlace& place, int64_t mtime);
Status setFileMetadata(int fd, const std::string& shown, const Entry& entry);

// Moves a finished file to its final name; without `overwrite`, `exists` if something is there.
Status moveIntoPlace(const LocalPlace& place, const std::string& from, bool overwrite);

// A name beside `name` that nothing else uses: ".NAME.capstan-part-SUFFIX", shortened where that is over 255 bytes.
std::string partName(std::string_view name, std::string_view suffix);
// What partName() of this name begins with.
std::string partPrefix(std::string_view name);
// 16 hexadecimal digits.
std::string randomSuffix();

}  // namespace capstan::client
