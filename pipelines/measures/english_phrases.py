"""What refusals and boilerplate look like in English: regular expressions, lower case, ' for any apostrophe.

Refusals match at the beginning of a sentence; boilerplate anywhere. Repeats are bounded.
"""

_KIND = "(?:(?:large|text-based|multimodal|visual|virtual|advanced|responsible|helpful) )?"
_AI = rf"(?:an? )?{_KIND}(?:ai|artificial intelligence|language model|(?:digital|virtual) assistant)\b"
_AI_NAME = "(?: language)?(?: model| assistant| system| chatbot| bot)?"
_NOT_HAVE = "(?:do not|don't) (?:currently )?have (?:the|any) (?:ability|capability|capacity|means|power)"
_CANNOT = (
    "(?:(?:can ?not|can't)(?: and will not)?|(?: ?am|'m) (?:unable to|not able to|not capable of)|"
    "(?:won't|will not|would not|wouldn't) be able to|"
    f"{_NOT_HAVE} to|lack the (?:ability|capability) to)"
)
_ADVERB = "(?:(?:actually|currently|directly|really|simply|just|also|therefore|physically|personally) )?"
_PICTURE = (
    "(?:image|picture|photo|photograph|video|clip|file|attachment|link|document|screenshot|graphic)s?\\b"
)
_SEE = "(?:see|view|open|display|read|recogni[sz]e|process|load|access|watch|describe|perceive|look at)"
_WHO = (
    "(?:people|individuals|faces|anyone|the (?:person|people|individual|man|woman)|this (?:person|man|woman))"
)
_ID = "(?:identify|recogni[sz]e|determine|confirm|verify|guess|speculate (?:on|about))"
_TASK = (
    "(?:help(?! but)|assist|answer|provide|comply|fulfill?|generate|create|produce|write|process|access|"
    "engage|discuss|do (?:that|this|so)|continue|offer|share|support|interpret|analy[sz]e|participate|"
    "complete|respond|tell you|in good conscience|browse|(?:tell|say|verify|confirm|know) who\\b|"
    f"{_ID}(?: or \\w+(?: \\w+)?)? (?:{_WHO}|(?:the|their) identit)|"
    f"{_SEE}(?: or \\w+)?(?: the| any| this| these| that| your| an?)?(?: \\w+)? {_PICTURE})"
)
_APOLOGY = (
    "(?:(?:(?:i am|i'm|we're|we are) )?(?:so |very |really |terribly |truly |deeply )?sorry|"
    "(?:(?:i|we|please accept) )?(?:my |our )?(?:sincerely |sincere |deepest )?apolog(?:i[sz]e|ies))"
)
_SORRY = f"(?:{_APOLOGY}|i regret|regrettably|unfortunately)"
_WHERE = "(?:attached|provided|uploaded|included|available|shared|given|visible|accessible)"
_SENT = "(?: (?:that )?you(?:'ve| have)? (?:provided|uploaded|shared|attached|mentioned|sent))?"

# what may stand before one
LEAD = (
    f"(?:{_APOLOGY},? (?:but |for that,? )?)?(?:(?:but|well|however),? |(?:please )?note that |"
    "i (?:must|have to|need to) (?:inform|tell) you that |it (?:seems|appears|looks)(?: that| like)? )?"
)
REFUSALS = (
    # I'm sorry, but I can't help with that. Unfortunately, as an AI I am unable to say.
    f"{_SORRY}[^.!?\n]{{0,80}}?\\bi ?{_ADVERB}(?:{_CANNOT}|won't|will not|must decline)",
    f"{_APOLOGY}[^.!?\n]{{0,40}}?\\bwe {_ADVERB}(?:{_CANNOT}|are (?:unable|not able)|won't|will not)",
    f"{_SORRY},?(?: but| for)? {_CANNOT} {_TASK}",
    f"{_SORRY},?(?: but)? i (?:do not|don't) have (?:enough|access|any|the)\\b",
    f"{_APOLOGY},?(?: but)? i can only ",
    f"{_APOLOGY},?(?: but)? i (?:do not|don't|did not|didn't|could not|couldn't) (?:have|know|understand|"
    f"feel|(?:see|find|receive) (?:an?|any|the) {_PICTURE})",
    f"{_APOLOGY},?(?: but)? (?:the|this|that|your) (?:content|request|question|{_PICTURE})[^.!?\n]{{0,30}}? "
    "(?:can ?not|can't|could not|couldn't|is not|isn't|was not|wasn't) ",
    f"{_SORRY},?(?: but)? (?:there (?:is|was|are) )?no {_PICTURE}[^.!?\n]{{0,20}}? {_WHERE}",
    f"i(?:'d| would) (?:be (?:happy|glad)|love|like) to (?:help|assist|answer|describe)[^.!?\n]{{0,40}}?"
    f"\\bbut i(?: ?{_ADVERB}{_CANNOT}| (?:do not|don't) (?:see|have) (?:an?|any|the|access))",
    # As an AI language model, I do not have … I'm just a language model, so I can't …
    f"(?:as|being|(?:(?:since|because) )?(?:i am|i'm)(?: just| only)?) {_AI}{_AI_NAME}[^.!?\n]{{0,80}}?"
    f"(?:\\bi ?{_ADVERB}|\\b){_CANNOT}",
    f"(?:as|being) {_AI}{_AI_NAME}[^.!?\n]{{0,40}}?\\bi ?(?:do not|don't|am not|'m not|must decline)",
    f"(?:i am|i'm) (?:just|only|merely) {_AI}",
    f"without (?:seeing|access|being|having|the|an?|more)\\b[^.!?\n]{{0,60}}?\\bi ?{_ADVERB}{_CANNOT}",
    f"as of my (?:last|latest|knowledge)\\b[^.!?\n]{{0,60}}?\\bi ?{_ADVERB}{_CANNOT}",
    # I cannot assist with this request. However, I am unable to view images.
    f"i ?{_ADVERB}{_CANNOT} {_ADVERB}{_TASK}",
    f"i(?:'m| am) afraid (?:that )?i ?{_ADVERB}(?:{_CANNOT}|won't)",
    f"no, i {_CANNOT} (?:help|assist|answer|provide|do (?:that|this))",
    f"{_CANNOT} {_SEE} (?:the|this|any|your)(?: \\w+)? {_PICTURE}",
    f"(?:unable|failed) to {_SEE}(?: \\w+){{0,2}} {_PICTURE}",
    # I must decline. I won't discuss it. I'd rather not say. I'm not comfortable …
    "i (?:must|have to|need to|will have to|am going to have to) (?:respectfully |politely )?"
    "(?:decline|refuse)",
    "i (?:respectfully |politely )?(?:refuse|decline) to ",
    "i (?:won't|will not) (?:answer|help|assist|provide|comply|engage|generate|create|write|discuss|identify|"
    "do th)",
    "i(?:'d rather| would rather|'d prefer| would prefer| prefer) not (?:to )?"
    "(?:answer|discuss|say|comment|continue|engage|guess|make|do)",
    "(?:i'm|i am) not (?:comfortable|allowed|permitted|programmed|designed|equipped|authori[sz]ed|"
    "in a position|going to (?:help|assist|answer|provide|identify|do (?:that|this)))",
    "i (?:do not|don't) (?:provide|offer|discuss|engage in|generate|identify|assist)\\b",
    "(?:this|that|it)(?: is|'s) "
    "(?:not something i can|something i (?:can't|can ?not|won't)|"
    "(?:beyond|outside)(?: of)? (?:my|the scope of my))",
    "i (?:do not|don't) feel comfortable",
    "(?:it is|it's|it would be|that would be) "
    "(?:not possible|impossible|not appropriate|inappropriate) for me to",
    # I don't have access to the picture. No image was provided. Please upload an image.
    f"i (?:{_NOT_HAVE}|(?:do not|don't) (?:currently )?have (?:access to|enough (?:information|context)|"
    "personal (?:opinions|feelings|beliefs|experiences)))",
    "i have no (?:information|access|way (?:to|of)|ability)",
    f"i (?:do not|don't) {_ADVERB}see (?:an?|any|the)(?: \\w+)? {_PICTURE}"
    f"(?: here| {_WHERE}| in (?:your|our)|$|[.,!])",
    f"(?:there (?:is|was) )?no {_PICTURE} (?:(?:is|was|were|has been) )?{_WHERE}",
    f"there (?:(?:does not|doesn't) (?:appear|seem) to be (?:an?|any)|(?:appears|seems) to be no)"
    f"(?: \\w+)? {_PICTURE}",
    f"(?:[^.!?\n]{{0,30}} )?(?:the|your) {_PICTURE}{_SENT} (?:is not|isn't|was not|wasn't|are not|aren't) "
    "(?:visible|accessible|available|displayed|loading|showing)",
    f"(?:[^.!?\n]{{0,30}} )?(?:the|your) {_PICTURE}{_SENT} (?:did not|didn't|failed to|could not|couldn't) "
    "(?:be )?(?:load|upload|display|open|process|come through)",
    f"(?:please|(?:could|can) you(?: please)?) (?:re-?)?(?:provide|upload|attach|share|send)(?: me)? "
    f"(?:with )?(?:the|an?|your)(?: \\w+)? {_PICTURE}",
    "(?:this|that|your|the) request (?:can ?not|can't|could not) be (?:fulfil|process|complet)",
    # This request violates my guidelines.
    "(?:this|that|it|(?:this|that|your|the) (?:request|question|content|prompt)) (?:may |would )?"
    "(?:violates?|goes against|is against|conflicts with) (?:my|our|openai|the (?:content|usage|safety))",
)
# (a cue that a text must have, the pattern that then decides)
BOILERPLATE = (
    ("as an ai", r"\bas an ai(?: language)?(?: model| assistant| system| chatbot)?,? (?:i|my)\b"),
    ("artificial intell", r"\bas an artificial intelligence(?: language model| model)?,? (?:i|my)\b"),
    ("language model", r"\b(?:as|i am|i'm)(?: just| only)? an? (?:large |ai )?language model"),
    ("cutoff", r"\b(?:my|the) (?:knowledge|training(?: data)?) cutoff"),
    ("cut-off", r"\b(?:my|the) (?:knowledge|training(?: data)?) cut-off"),
    ("lorem ipsum", r"\blorem ipsum\b"),
    ("dolor sit amet", r"\bdolor sit amet\b"),
    ("click ", r"\bclick (?:here\b|(?:on )?(?:the|this) (?:link|button)\b|(?:on )?(?:the|this) image to\b)"),
    ("all rights reserved", r"\ball rights reserved\b"),
    ("copyright", r"\bcopyright (?:\(c\) ?|© ?)?(?:19|20)\d\d\b"),
    ("©", r"© ?(?:19|20)\d\d\b"),
    ("newsletter", r"\b(?:subscribe|sign up) (?:to|for) (?:our|the|my) (?:\w+ )?newsletter"),
    ("subscribe to", r"\bsubscribe to (?:our|my|the) (?:\w+ )?(?:channel|mailing)"),
    ("cookies", r"\b(?:this (?:web)?site uses|accept all|we use) cookies\b"),
    ("javascript", r"\b(?:enable javascript|javascript (?:is (?:disabled|required)|must be enabled))"),
    ("404", r"\b404 (?:error|not found)\b"),
    ("page not found", r"\bpage not found\b"),
    ("privacy policy", r"\bterms (?:of (?:use|service)|and conditions)\W+(?:and )?privacy policy"),
    ("royalty", r"\broyalty[- ]free\b"),
    ("shutterstock", r"\bshutterstock\b"),
    ("getty images", r"\bgetty images\b"),
    ("dreamstime", r"\bdreamstime\b"),
    ("stock photo", r"\bistock ?photo\b"),
    ("add to ", r"\badd to (?:cart|basket|wish ?list)\b"),
    ("free shipping", r"\bfree shipping\b"),
    ("buy now", r"\bbuy now\b"),
    ("read more", r"\bread more ?(?:»|→|>|\.\.\.|…)"),
    ("continue reading", r"\bcontinue reading ?(?:»|→|>|\.\.\.|…)"),
    ("follow us on", r"\bfollow us on (?:facebook|twitter|instagram|pinterest|youtube)\b"),
    ("share on ", r"\bshare on (?:facebook|twitter|instagram|pinterest)\b"),
    (" here", r"\b(?:insert|your) (?:text|caption|title|name) (?:goes )?here\b"),
    ("placeholder text", r"\bplaceholder text\b"),
    ("regenerate response", r"\bregenerate response\b"),
)
