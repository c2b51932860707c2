// Uploading a local folder with all that is in it: walked folder by folder, many files at once, none waiting for
// another.
#pragma once

#include <string>
#include <vector>

#include <capstan/client/links.h>
#include <capstan/client/local-files.h>
#include <capstan/client/tally.h>
#include <capstan/client/task-window.h>

namespace capstan::client {

// Belongs to one event loop; lives until the promise of run() has resolved or is dropped.
class TreeUpload final {
 public:
  // The folder at `source` becomes exactly `remotePath`.
  TreeUpload(Links& links, LocalPlace source, std::string remotePath, const UploadSettings& settings, Tally& tally);
  KJ_DISALLOW_COPY(TreeUpload);

  // An Error that hits every file alike (no server, no space) ends it all; what concerns one file or folder is a
  // failure in the tally's summary.
  kj::Promise<Status> run();

 private:
  struct Folder {
    std::string relative;
    Attributes attributes;
  };
  // The names in the folder that is being worked on.
  struct Names {
    std::string relative;
    std::vector<std::string> names;
  };

  // Constant after construction.
  Links& links;
  LocalPlace source;
  std::string remotePath;
  UploadSettings settings;
  Tally& tally;

  FolderHandle root;
  std::vector<std::string> pending;  // folders that are still to be walked, the next one last
  std::vector<Folder> folders;       // in the order in which they were found; their metadata is set at the end
  std::vector<std::string> refused;  // folders that the server did not make: what is in them is left out
  TaskWindow window;

  kj::Promise<void> walk();
  kj::Promise<void> takeFrom(std::shared_ptr<Names> folder, size_t index);
  Result<Names> readFolder(const std::string& relative) const;
  kj::Promise<void> take(std::string relative);
  kj::Promise<void> takeFolder(std::string relative, Attributes attributes);
  kj::Promise<void> takeFile(std::string relative, uint64_t size);
  kj::Promise<void> takeSymlink(std::string relative, int64_t mtime);
  Result<std::string> readLink(const std::string& relative) const;
  kj::Promise<void> setFolders(size_t left);

  std::string shown(const std::string& relative) const;
  std::string remote(const std::string& relative) const;
  bool isLeftOut(const std::string& relative) const;
  void note(const std::string& relative, Error error);
};

}  // namespace capstan::client
