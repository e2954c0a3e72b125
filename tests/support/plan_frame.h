// The whole plan of a record's frame in one call; the engine checks the size in between.

#ifndef CORDWOOD_TESTS_SUPPORT_PLAN_FRAME_H_
#define CORDWOOD_TESTS_SUPPORT_PLAN_FRAME_H_

#include "cordwood/segment/frame.h"

namespace cordwood::testing {

inline segment::FramePlan PlanFrame(const Record& record) {
  segment::FramePlan plan;
  segment::PlanSizes(record, plan);
  segment::HashBody(record, plan);
  return plan;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_PLAN_FRAME_H_
