// What `capstan doctor` looks at in the state folder: whose it is, who may enter it, and who may read the secrets in
// it; and whether the served folder is for the same user.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include <capstan/client/cli/doctor-finding.h>

namespace capstan::cli {

// Whose files are right: this user's; for root, who looks after others' services, whoever has the state folder.
uid_t expectedOwnerOf(const std::string& stateFolder);

// A folder that is not there yet is fine: the first start makes it.
Finding lookAtState(const std::string& folder);

// A file that nobody but `owner` may read. `what` begins the sentence: "the owner's token". Nothing where there is none
// and none is `needed`.
std::optional<Finding> lookAtSecret(const std::string& check, const std::string& what, const std::string& path,
                                    uid_t owner, bool needed);

// The owner's token: the file, and whether it holds a token.
Finding lookAtOwnerToken(const std::string& stateFolder);

// Whether the user of the state folder may write into the folder that is to be served, tried as that user where root
// asks. Nothing where it is so, or is this user's own affair, which is looked at with the disk. It is a warning at
// most: a service manager may give the state folder to another user at the next start.
std::optional<Finding> lookAtOwnerOf(const std::string& root, const std::string& stateFolder);

}  // namespace capstan::cli
