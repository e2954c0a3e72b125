// What is in the files of a group, looked at without storing anything: the part of Verify that is
// about committed offsets, the live page, and what a share group knows of its records. A page of
// another boot is not looked at further than that: its words count for nothing.
//
// Thread and process safety: any thread, beside anyone.

#ifndef CORDWOOD_GROUP_VERIFY_H_
#define CORDWOOD_GROUP_VERIFY_H_

#include <string>

#include "log/verify.h"

namespace cordwood::group {

void VerifyGroup(const log::VerifyInput& input, const std::string& name, log::Findings& findings);

// The live page and the files of a share group, whose folder that is (verify_pages.cc).
void VerifyPages(const log::VerifyInput& input, const std::string& folder, log::Findings& findings);

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_VERIFY_H_
